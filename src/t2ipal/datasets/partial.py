"""Partial labels made from full ones: at random, the same for a seed whatever the order of files.

The protocol of the partial-label papers, as their published code has it (Chen et al., "Structured
Semantic Transfer", AAAI 2022; DualCoOp, Sun et al., NeurIPS 2022; the partial-label experiments of
TaI-DPT, Guo et al., CVPR 2023): each label of an image, present or absent, is kept on its own with
one probability, so the number of labels left varies from image to image. Their random numbers come
one after the other, so a mask holds for one order of the images; here the number of a label comes
from the seed, the image's name and the class, and an image keeps its labels when others come or go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.vocabulary import UNKNOWN


def hide_labels(
    images: LabelledImages, classes: Sequence[str], fraction: float, seed: int
) -> LabelledImages:
    """The same images with each known label kept with probability ``fraction``, else unknown.

    ``classes`` are the C names in the order of ``images.targets``. Labels that are unknown stay so.

    Examples:
        >>> from pathlib import Path
        >>> files = (Path("a.jpg"), Path("b.jpg"))
        >>> images = LabelledImages("two photos", files, np.array([[1, 0], [0, 1]], dtype=np.int8))
        >>> hide_labels(images, ["cat", "dog"], fraction=0.5, seed=0).targets.tolist()
        [[1, 0], [-1, -1]]
    """
    kept = _label_mask(images.names, classes, fraction, seed)
    targets = np.where(kept, images.targets, np.int8(UNKNOWN))
    return replace(images, targets=targets)


def _label_mask(
    images: Sequence[str], classes: Sequence[str], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Which labels are kept: bool [N, C], each True with probability ``fraction`` on its own.

    An entry is a function of the seed, the image's name, the class's name and the fraction alone.
    What is kept at one fraction is kept at every higher one.

    Raises:
        ValueError: ``fraction`` is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, not {fraction}")
    rows = _keys(f"image {seed}", images)[:, None]
    columns = _keys(f"class {seed}", classes)[None, :]
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64
        bits = _mix(rows + columns)  # [N, C]
    return (bits >> np.uint64(11)) * 2.0**-53 < fraction  # 53 bits: every float64 step in [0, 1)


def _keys(kind: str, names: Sequence[str]) -> NDArray[np.uint64]:
    """uint64 [n], one per name; hashed, so that similar names have nothing in common."""
    texts = (f"{kind}\n{name}".encode("utf-8", "surrogatepass") for name in names)
    digests = (hashlib.sha256(text).digest() for text in texts)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], dtype=np.uint64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): every bit out depends on every bit in.

    A hash of each pair would say the same, but COCO has millions of them.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
