"""A tagger on labelled images: its scores, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2ipal.clip.clip_settings import Precision
from t2ipal.clip.features import FeatureCache, image_items
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.metrics.evaluation import Evaluation, mean_average_precision
from t2ipal.metrics.evaluation import evaluate as judge
from t2ipal.metrics.uncertainty import bootstrap_map, calibration_error, eleven_point
from t2ipal.tagger.tagger import Tagger


@dataclass(frozen=True, eq=False)
class Scored:
    """A tagger's scores and probabilities of labelled images, [N, C] each."""

    names: tuple[str, ...]
    thresholds: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray

    def evaluate(self) -> Evaluation:
        """mAP, F1 at the tagger's thresholds and at top-3."""
        return judge(self.scores, self.targets, self.names, thresholds=self.thresholds)

    def more(self) -> dict[str, float]:
        """Further figures in [0, 1]: mAP by eleven points, the calibration error, and the ends of
        mAP's 95 % interval by the bootstrap."""
        low, high = bootstrap_map(self.scores, self.targets)
        return {
            "mAP, eleven points": mean_average_precision(eleven_point(self.scores, self.targets)),
            "calibration error": calibration_error(self.probabilities, self.targets),
            "mAP, low": low,
            "mAP, high": high,
        }


def evaluate(
    model: Tagger | str | Path,
    data: str | Path,
    *,
    images: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    image_size: int | None = None,
    crops: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure a tagger on labelled images; the arguments are those of :func:`score`."""
    return score(
        model,
        data,
        images=images,
        cache=cache,
        device=device,
        precision=precision,
        image_size=image_size,
        crops=crops,
        progress=progress,
    ).evaluate()


def score(
    model: Tagger | str | Path,
    data: str | Path,
    *,
    images: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    image_size: int | None = None,
    crops: int | None = None,
    progress: bool = True,
) -> Scored:
    """Score labelled images with a tagger.

    Args:
        model: a tagger or its folder.
        data: labelled images: a folder with ``labels.csv``, a COCO-format JSON, a benchmark in its
            authors' layout, or ``miniature``
            (:func:`t2ipal.datasets.read.read_labelled_images`).
        images: folder of the images of a COCO JSON, where it cannot be guessed.
        cache: folder of the feature cache; beside the model where not given.
        image_size, crops: as :meth:`Tagger.from_pretrained` takes them, for a model's folder.

    Raises:
        UserError: bad labels, a missing image, no model.
    """
    tagger = model
    if not isinstance(tagger, Tagger):
        tagger = Tagger.from_pretrained(
            tagger, device=device, precision=precision, image_size=image_size, crops=crops
        )
    if cache is None:
        beside = Path(model).parent if isinstance(model, (str, Path)) else Path(".")
        cache = beside / "features"
    labelled = read_labelled_images(data, tagger.vocabulary, images=images, cache=cache)
    if not (labelled.targets == 0).any():
        raise UserError(
            f"{data}: no class is known to be absent from any image, so every ranking would be "
            "right; give images with labels 0 too."
        )
    features = FeatureCache(cache, tagger.backbone)
    items = image_items(
        features, labelled.files, labelled.targets, crops=tagger.crops, progress=progress
    )
    scores = tagger.head.score_items(items).cpu().numpy()
    return Scored(
        tagger.names,
        np.array(tagger.thresholds.thresholds),
        scores,
        tagger.thresholds.probabilities(scores),
        labelled.targets,
    )
