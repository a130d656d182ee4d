"""Is a generated image usable: not flagged, black or flat, and does it show what it should?

Safety checkers of Stable Diffusion blacken what they flag, and a half-precision overflow ends as a
black image too (huggingface/diffusers#811). Both would enter training with the caption's labels.
So would an image that leaves out what its caption names; an ``Inspector`` can look for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image, ImageStat

if TYPE_CHECKING:
    from t2ipal.captions.labelled import LabelledCaption

UNSEEN = "unseen"
"""Why an image was rejected that shows none of its labels."""

BLACK_LEVEL = 4
"""A black image has no channel value above this (of 255)."""

FLAT_DEVIATION = 2.0
"""A flat image deviates less than this (of 255) from its mean in every channel. For comparison: one
object at half contrast on a hundredth of the area makes a deviation of 12."""


@dataclass(frozen=True)
class Finding:
    """What an inspector found: labels it does not find, and classes that it finds unasked."""

    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


class Inspector(Protocol):
    """Looks at generated images; :class:`t2ipal.generation.inspector.ClipInspector` is one."""

    @property
    def asked(self) -> dict[str, Any]:
        """What decides its findings, ready for JSON: part of what decides a run's images."""
        ...

    def inspect(
        self, images: Sequence[Image.Image], captions: Sequence[LabelledCaption]
    ) -> list[Finding]:
        """One finding per image, each a function of the image and its labels alone."""
        ...


def reject_reason(image: Image.Image, flagged: bool = False) -> str | None:
    """Why an image is rejected: ``"flagged"``, ``"black"``, ``"flat"``; None if usable.

    ``flagged`` is the verdict of the pipeline's own safety checker and comes first, because what it
    flags it also blackens.
    """
    if flagged:
        return "flagged"
    statistics = ImageStat.Stat(image.convert("RGB"))
    if max(highest for _, highest in statistics.extrema) <= BLACK_LEVEL:
        return "black"
    return "flat" if max(statistics.stddev) < FLAT_DEVIATION else None
