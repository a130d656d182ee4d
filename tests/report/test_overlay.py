"""Heat where it is hot, the image where it is cold."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from t2ipal.report.overlay import _heat_colours, heat_overlay


def one_hot_heat(row: int, column: int, size: int = 8) -> np.ndarray:
    heat = np.zeros((size, size))
    heat[row, column] = 1
    return heat


@pytest.mark.parametrize("size", [(64, 64), (90, 37)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_the_size_is_kept_and_the_result_is_rgb(size, mode):
    image = Image.new("RGB", size, (20, 90, 160)).convert(mode)
    overlay = heat_overlay(image, one_hot_heat(2, 2))
    assert overlay.size == size and overlay.mode == "RGB"


def test_it_is_red_where_the_heat_is():
    image = Image.new("RGB", (80, 40), (40, 90, 160))
    overlay = np.asarray(heat_overlay(image, one_hot_heat(6, 1)), dtype=int)
    redness = overlay[..., 0] - overlay[..., 1:].max(axis=-1)
    row, column = np.unravel_index(redness.argmax(), redness.shape)
    assert abs(row - 6.5 * 5) <= 3 and abs(column - 1.5 * 10) <= 5
    assert redness[row, column] > 60
    assert redness[:20, 40:].max() < 0  # the far corner stays as blue as it was


def test_cold_places_lose_colour_but_keep_their_brightness():
    image = Image.new("RGB", (16, 16), (200, 40, 40))
    cold = np.asarray(heat_overlay(image, np.zeros((4, 4))), dtype=float)
    luma = np.array([0.299, 0.587, 0.114])
    assert (cold @ luma)[0, 0] == pytest.approx(np.array([200, 40, 40]) @ luma, abs=1)
    assert np.ptp(cold[0, 0]) < 160 * 0.5


def test_a_heatmap_without_contrast_is_cold_and_a_common_scale_is_kept():
    image = Image.new("RGB", (16, 16), (120, 120, 120))
    assert heat_overlay(image, np.full((4, 4), 3.0)).tobytes() == image.tobytes()
    weak = heat_overlay(image, 0.2 * one_hot_heat(1, 1, 4), low=0, high=1)
    strong = heat_overlay(image, one_hot_heat(1, 1, 4), low=0, high=1)
    change = [np.abs(np.asarray(o, dtype=int) - 120).max() for o in (weak, strong)]
    assert change[0] < 0.5 * change[1]
    own_scale = heat_overlay(image, 0.2 * one_hot_heat(1, 1, 4))
    assert own_scale.tobytes() == strong.tobytes()


def test_the_colours_run_from_yellow_to_red():
    colours = _heat_colours(np.linspace(0, 1, 50))
    assert colours.shape == (50, 3)
    assert (np.diff(colours[:, 1]) < 0).all()  # green falls steadily
    assert colours[-1, 0] > 200 and colours[-1, 1:].max() < 40


@pytest.mark.parametrize("heat", [np.zeros(4), np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_bad_heatmaps_are_refused(heat):
    with pytest.raises(ValueError, match="heatmap"):
        heat_overlay(Image.new("RGB", (4, 4)), heat)
