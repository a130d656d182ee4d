"""Is a drawing usable at all: neither flagged, nor black, nor one flat colour.

Safety checkers of Stable Diffusion blacken what they flag, and a half-precision overflow ends as a
black image too (huggingface/diffusers#811). Both would enter training with the caption's labels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

BLACK_LEVEL = 4
"""A black image has no channel value above this (of 255)."""

FLAT_DEVIATION = 2.0
"""A flat image deviates less than this (of 255) from its mean in every channel. For comparison: one
object at half contrast on a hundredth of the area makes a deviation of 12."""


def is_black(pixels: np.ndarray) -> str | None:
    """``"black"`` if nothing in ``pixels`` [H, W, C] uint8 rises above ``BLACK_LEVEL``."""
    return "black" if int(pixels.max()) <= BLACK_LEVEL else None


def is_flat(pixels: np.ndarray) -> str | None:
    """``"flat"`` if every channel of ``pixels`` [H, W, C] uint8 is one value or nearly so."""
    deviation = pixels.astype(np.float64).std(axis=(0, 1))  # [C]
    return "flat" if float(deviation.max()) < FLAT_DEVIATION else None


def reject_reason(image: Image.Image, flagged: bool = False) -> str | None:
    """Why a drawing is to be drawn again: ``"flagged"``, ``"black"``, ``"flat"``; None if usable.

    ``flagged`` is the word of the pipeline's own safety checker and comes first, because what it
    flags it also blackens.
    """
    if flagged:
        return "flagged"
    pixels = np.asarray(image.convert("RGB"))
    return is_black(pixels) or is_flat(pixels)
