"""Overlapping crops of an image: a second, closer look at it when it is tagged.

A small object fills more of a crop than of the image, so CLIP sees it at a higher resolution
(TagCLIP and SPARC, arXiv 2502.16911, look at crops for that reason).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from t2ipal.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

MOST_CROPS = 10
"""Per side: 100 crops of an image, of 224 pixels, take 60 MB."""

Crop = tuple[float, float, float, float]
"""Left, top, right and bottom edge, as fractions of the image's width and height."""


def crop_boxes(crops: int) -> tuple[Crop, ...]:
    """``crops`` x ``crops`` crops of one size, each overlapping the next by half; none for 0.

    Raises:
        UserError: ``crops`` is negative, 1, which would be the image itself, or too many.
    """
    if not isinstance(crops, int) or crops == 1 or not 0 <= crops <= MOST_CROPS:
        raise UserError(
            f"crops must be 0 (none) or at least 2 per side and at most {MOST_CROPS}, "
            f"not {crops!r}."
        )
    step = 1 / (crops + 1)
    starts = [step * i for i in range(crops)]
    return tuple((x, y, x + 2 * step, y + 2 * step) for y in starts for x in starts)


def cut(image: Image.Image, crop: Crop) -> Image.Image:
    """A crop of an image, at least one pixel wide and high."""
    left, top, right, bottom = crop
    width, height = image.size
    x, y = min(round(left * width), width - 1), min(round(top * height), height - 1)
    return image.crop((x, y, max(x + 1, round(right * width)), max(y + 1, round(bottom * height))))
