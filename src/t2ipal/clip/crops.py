"""Overlapping windows of an image: a second, closer look at it when it is tagged.

A small object fills more of a window than of the image, so CLIP sees it at a higher resolution
(TagCLIP and SPARC, arXiv 2502.16911, look at crops for that reason).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from t2ipal.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

Window = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the image's width and height."""


def windows(crops: int) -> tuple[Window, ...]:
    """``crops`` x ``crops`` windows of one size, each half over the next; none for 0.

    Raises:
        UserError: 1, which would be the image itself, or a negative number.
    """
    if crops < 0 or crops == 1:
        raise UserError(f"crops must be 0 (none) or at least 2 a side, not {crops}.")
    step = 1 / (crops + 1)
    starts = [step * i for i in range(crops)]
    return tuple((x, y, x + 2 * step, y + 2 * step) for y in starts for x in starts)


def cut(image: Image.Image, window: Window) -> Image.Image:
    """The part of an image under a window, at least one pixel a side."""
    left, top, right, bottom = window
    width, height = image.size
    x, y = min(round(left * width), width - 1), min(round(top * height), height - 1)
    return image.crop((x, y, max(x + 1, round(right * width)), max(y + 1, round(bottom * height))))
