"""Image files: RGB and upright, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from t2ipal.datasets.pictures import load_image
from t2ipal.errors import UserError


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    suffix = "tiff" if mode == "CMYK" else "png"
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (6, 4), "white").convert(mode).save(path)
    image = load_image(path)
    assert image.mode == "RGB" and image.size == (6, 4)
    assert image.getpixel((2, 2)) == (255, 255, 255)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees
    Image.new("RGB", (6, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").size == (4, 6)


def test_bad_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:300])
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for path in (cut, text, empty, tmp_path):
        with pytest.raises(UserError, match="cannot be read as an image") as caught:
            load_image(path)
        assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="not found"):
        load_image(tmp_path / "absent.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="cannot be read"):
        load_image(whole)
