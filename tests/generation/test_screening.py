from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from t2ipal.generation.screening import reject_reason


def picture(background: tuple[int, int, int], square: tuple[int, int, int] | None = None) -> Image:
    """64 x 64 pixels of one colour, with a small square (1 % of the area) of another."""
    pixels = np.empty((64, 64, 3), np.uint8)
    pixels[:] = background
    if square:
        pixels[10:16, 10:17] = square
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("image", "flagged", "reason"),
    [
        (picture((0, 0, 0)), False, "black"),
        (picture((3, 2, 4), (0, 0, 1)), False, "black"),
        (picture((0, 0, 0)), True, "flagged"),
        (picture((200, 30, 90)), False, "flat"),
        (picture((255, 255, 255)), False, "flat"),
        (picture((200, 30, 90), (201, 31, 88)), False, "flat"),
        (picture((200, 30, 90), (90, 30, 90)), False, None),
        (picture((0, 0, 0), (0, 0, 120)), False, None),
        (picture((0, 0, 0), (0, 0, 120)), True, "flagged"),
    ],
)
def test_reason(image: Image.Image, flagged: bool, reason: str | None) -> None:
    assert reject_reason(image, flagged) == reason


def test_a_gradient_and_a_grey_picture_are_kept() -> None:
    gradient = np.linspace(0, 255, 64, dtype=np.uint8)
    assert reject_reason(Image.fromarray(np.tile(gradient, (64, 1)))) is None


def test_noise_of_one_level_is_flat() -> None:
    pixels = np.random.default_rng(0).integers(120, 122, (64, 64, 3), dtype=np.uint8)
    assert reject_reason(Image.fromarray(pixels)) == "flat"
