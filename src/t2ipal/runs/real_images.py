"""Labelled real images to train on beside generated ones: few, or with few labels known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2ipal.datasets.few_shot import choose_shots
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.partial import hide_labels
from t2ipal.datasets.read import read_labelled_images
from t2ipal.files.broken import Broken
from t2ipal.runs.config import RealImageSettings
from t2ipal.vocabulary import Vocabulary

SCENES = "scenes"
"""Folder beside a run's images in which the miniature's scenes are drawn."""

# The miniature's test scenes have seed 0: these are others.
_SCENES_SEED = 1


@dataclass(frozen=True, eq=False)
class RealImages:
    """What is trained on.

    Attributes:
        images: those that are trained on.
        summary: how they were chosen, in words.
        read: what was read, guessed and left out before that, as lines.
    """

    images: LabelledImages
    summary: str
    read: tuple[str, ...]


def read_real_images(
    config: RealImageSettings,
    vocabulary: Vocabulary,
    scenes: str | Path,
    broken: Broken | None = None,
) -> RealImages | None:
    """The images that ``real_images``, ``shots`` and ``label_fraction`` ask for, or None.

    Labels are hidden first, so that shots are chosen by labels that are known.

    Args:
        scenes: folder in which the miniature's scenes are drawn, if these are asked for.
        broken: told of images that cannot be read, which are an error if omitted.

    Raises:
        UserError: bad labels, a missing image, or a class with fewer images than shots.
    """
    if config.real_images is None:
        return None
    images = read_labelled_images(
        config.real_images,
        vocabulary,
        images=config.real_folder,
        cache=scenes,
        seed=_SCENES_SEED,
        broken=broken,
    ).readable(broken)
    known, full = images, images
    if config.label_fraction is not None:
        known = hide_labels(full, vocabulary.names, config.label_fraction, config.mask_seed)
    taken = known
    words = []
    if config.shots is not None:
        rows = choose_shots(known, vocabulary.names, config.shots, config.seed)
        taken, full = known.take(rows), full.take(rows)
        counts = (taken.targets == 1).sum(axis=0)
        words.append(
            f"{counts.min()} to {counts.max()} per class for {config.shots} shots "
            f"(seed {config.seed})"
        )
    if config.label_fraction is not None:
        left, before = int((taken.targets >= 0).sum()), int((full.targets >= 0).sum())
        words.append(f"{left} of their {before} labels kept (mask seed {config.mask_seed})")
    summary = "; ".join([f"{len(taken)} of {len(images)} taken", *words])
    return RealImages(taken, summary, tuple(images.lines()))
