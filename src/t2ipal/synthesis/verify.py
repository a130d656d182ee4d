"""Is a drawing usable: not flagged, black or flat, and does it show what it should?

Safety checkers of Stable Diffusion blacken what they flag, and a half-precision overflow ends as a
black image too (huggingface/diffusers#811). Both would enter training with the caption's labels.
So would a drawing that leaves out what its caption names; an ``Inspector`` can look for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from t2ipal.captions.labelled import LabelledCaption

UNSEEN = "unseen"
"""Why a drawing was thrown away that shows none of its labels."""

BLACK_LEVEL = 4
"""A black image has no channel value above this (of 255)."""

FLAT_DEVIATION = 2.0
"""A flat image deviates less than this (of 255) from its mean in every channel. For comparison: one
object at half contrast on a hundredth of the area makes a deviation of 12."""


@dataclass(frozen=True)
class Finding:
    """What an inspector found: labels it does not see, and classes that it sees unasked."""

    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


class Inspector(Protocol):
    """Looks at drawings; :class:`t2ipal.inspection.ClipInspector` is one."""

    @property
    def asked(self) -> dict[str, Any]:
        """What decides its findings, ready for JSON: part of what decides a run's images."""
        ...

    def inspect(
        self, images: Sequence[Image.Image], captions: Sequence[LabelledCaption]
    ) -> list[Finding]:
        """One finding a drawing, each a function of the drawing and its labels alone."""
        ...


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
