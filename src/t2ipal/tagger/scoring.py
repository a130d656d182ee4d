"""A tagger on labelled images: what its scores are worth."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from t2ipal.clip.clip_settings import Precision, ResizeMode
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files.broken import MAX_MEGAPIXELS, Broken
from t2ipal.files.pictures import picture_size
from t2ipal.metrics import evaluation
from t2ipal.metrics.evaluation import Evaluation
from t2ipal.metrics.ranking import average_precision, chance_level
from t2ipal.tagger.onnx_model import OnnxModel
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.tags import refuse_no_numbers

log = logging.getLogger(__name__)

_RIVALS = 3  # the classes that most often outscore one


def labelled_scores(
    tagger: Tagger,
    data: str | Path,
    *,
    images: str | Path | None,
    cache: str | Path,
    broken: Broken,
    say: Callable[[str], None] = log.info,
    progress: bool = True,
) -> tuple[LabelledImages, np.ndarray]:
    """Labelled images and the tagger's scores of them [N, C]; arguments as :func:`evaluate`.

    Raises:
        UserError: bad labels, a missing image, or no label that is known to be absent.
    """
    labelled = read_labelled_images(
        data, tagger.vocabulary, images=images, cache=cache, broken=broken
    ).readable(broken)
    if not (labelled.targets == 0).any():
        raise UserError(
            f"{data}: no class is known to be absent from any image, so every ranking would be "
            "right; give images with labels 0 too."
        )
    if isinstance(tagger.model, OnnxModel):
        labelled, scores = _streamed(tagger, labelled, broken, progress)
        for line in (*labelled.lines(), *broken.write(Path(cache))):
            say(line)
        return labelled, scores
    from t2ipal.clip.features import FeatureCache, image_items  # loads PyTorch

    features = FeatureCache(cache, tagger.clip.backbone, broken=broken)
    labelled = features.readable(labelled, crops=tagger.model.crops, progress=progress)
    for line in (*labelled.lines(), *broken.write(Path(cache))):
        say(line)
    if (warning := tagger.unlike(map(picture_size, labelled.files))) is not None:
        log.warning(warning)
    items = image_items(
        features, labelled.files, labelled.targets, crops=tagger.model.crops, progress=progress
    )
    scores = tagger.clip.head.score_items(items).cpu().numpy()
    refuse_no_numbers(tagger.model, scores)
    return labelled, scores


def evaluate(
    model: Tagger | str | Path,
    data: str | Path,
    *,
    images: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    image_size: int | None = None,
    resize_mode: ResizeMode | None = None,
    crops: int | None = None,
    skip_broken: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    say: Callable[[str], None] = log.info,
    progress: bool = True,
) -> Evaluation:
    """Measure a tagger on labelled images.

    Args:
        model: a tagger, its folder or its ONNX file.
        data: labelled images: a folder with ``labels.csv``, a COCO-format JSON, a benchmark in its
            authors' layout, or ``miniature``
            (:func:`t2ipal.datasets.read.read_labelled_images`).
        images: folder of the images of a COCO JSON, if it cannot be guessed.
        cache: folder of the feature cache; beside the model if omitted. An ONNX file has none.
        device, precision, image_size, resize_mode, crops: as :meth:`Tagger.from_pretrained`
            takes them, for a model's folder.
        skip_broken: leave out images that cannot be read, and list them in ``broken.jsonl`` beside
            the features; without it they are an error.
        max_megapixels: larger pictures cannot be read, unless they are JPEG.
        say: told what was read, and what was left out.
        progress: show progress bars.

    Returns:
        mAP with its bootstrap interval, AP per class, F1 at the tagger's thresholds and at top-3,
        and the calibration error of its probabilities.

    Raises:
        UserError: bad labels, a missing image, no model, or no label that is known to be absent.
    """
    tagger = model
    if not isinstance(tagger, Tagger):
        tagger = Tagger.from_pretrained(
            tagger,
            device=device,
            precision=precision,
            image_size=image_size,
            resize_mode=resize_mode,
            crops=crops,
        )
    if cache is None:
        beside = Path(model).parent if isinstance(model, (str, Path)) else Path(".")
        cache = beside / "features"
    labelled, scores = labelled_scores(
        tagger,
        data,
        images=images,
        cache=cache,
        broken=Broken(skip_broken, max_megapixels),
        say=say,
        progress=progress,
    )
    found = evaluation.evaluate(
        scores,
        labelled.targets,
        tagger.names,
        thresholds=tagger.thresholds.thresholds,
        probabilities=tagger.thresholds.probabilities(scores),
    )
    return replace(found, skipped=labelled.skipped)


def held_out_figures(
    names: Sequence[str], scores: np.ndarray, probabilities: np.ndarray, targets: np.ndarray
) -> dict[str, dict[str, Any]]:
    """How well each class is recognised, and what is taken for it.

    Args:
        scores, probabilities: [N, C] of images, or captions, that were not trained on.
        targets: [N, C] in {1, 0, -1}.

    Returns:
        Class -> ``AP`` (None if none shows it), the ``chance`` level below which 95 of 100 random
        orders lie, both in [0, 1]; how many items are ``shown`` to hold it; and ``taken_for``,
        class -> in how many of these, absent, it is more probable than the class itself.
    """
    found: dict[str, dict[str, Any]] = {}
    for c, (name, value) in enumerate(zip(names, average_precision(scores, targets), strict=True)):
        shown = targets[:, c] == 1
        above = (probabilities[shown] > probabilities[shown, c : c + 1]) & (targets[shown] == 0)
        counts = above.sum(axis=0)
        rivals = np.argsort(-counts, kind="stable")[:_RIVALS]
        found[name] = {
            "AP": None if value != value else round(float(value), 4),
            "chance": None if value != value else round(chance_level(targets[:, c]), 4),
            "shown": int(shown.sum()),
            "taken_for": {names[d]: int(counts[d]) for d in rivals if counts[d]},
        }
    return found


def _streamed(
    tagger: Tagger, labelled: LabelledImages, broken: Broken, progress: bool
) -> tuple[LabelledImages, np.ndarray]:
    """Those of the images that can be read, and their scores [N, C], without a cache."""
    kept, scores = [], []
    stream = tagger.scored(labelled.files, max_megapixels=broken.max_megapixels)
    bar = tqdm(stream, "scoring images", len(labelled), disable=not progress or None)
    for row, (file, opened, found, _) in enumerate(bar):
        if isinstance(opened, UserError):
            broken.add(file, opened)
        else:
            kept.append(row)
            scores.append(found)
    if not kept:
        raise UserError(f"{labelled.source}: none of its images can be read; check the data.")
    return labelled.only(kept), np.stack(scores)
