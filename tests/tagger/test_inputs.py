"""Whatever holds an image shows a tagger the same pixels; what holds none is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TinyRun
from t2ipal.errors import UserError
from t2ipal.tagger.inputs import one_image, open_image
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.tags import Tags

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def png() -> bytes:
    stream = io.BytesIO()
    PICTURE.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "image",
    [
        PICTURE,
        png(),
        bytearray(png()),
        PIXELS,
        PIXELS / 255,
        np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)]),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).requires_grad_(),
    ],
)
def test_every_form_of_an_image_shows_the_same(image: object):
    assert one_image(image)
    np.testing.assert_array_equal(np.asarray(open_image(image, 100)), PIXELS)


def test_grey_arrays_are_images_too():
    grey = PIXELS[..., 0]
    for array in (grey, grey[..., None], torch.from_numpy(grey)[None]):
        assert np.asarray(open_image(array, 100)).tolist() == np.dstack([grey] * 3).tolist()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("https://example.org/cat.jpg", "is an address; download it"),
        (Path("."), "is a folder"),
        (PIXELS.astype(np.int64), "an array of int64 is no image"),
        (
            torch.from_numpy(PIXELS),
            r"a tensor of shape \[24, 32, 3\] is no image; give \[3, H, W\]",
        ),
        (PIXELS.transpose(2, 0, 1), r"an array of shape \[3, 24, 32\].*give \[H, W, 3\]"),
        (PIXELS * 1.0, "pixels from 0 to 1, before any normalisation"),
        (np.zeros((0, 4, 3), np.uint8), "is no image"),
        (b"no picture", "an image in memory"),
        (None, "type NoneType is no image"),
        ([PICTURE], "type list among the images"),
    ],
)
def test_what_is_no_image_is_refused(image: object, message: str):
    with pytest.raises(UserError, match=message):
        open_image(image, 100)


def test_one_gives_one_result_and_several_a_list(tiny_run: TinyRun, tmp_path: Path):
    tagger = Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")
    one = tagger.predict(PICTURE)
    assert isinstance(one, Tags) and one == tagger(PIXELS)
    for n in range(3):
        PICTURE.save(tmp_path / f"{n}.png")
    batch = torch.from_numpy(np.stack([PIXELS] * 3)).permute(0, 3, 1, 2)
    for images in ([PICTURE] * 3, (p for p in (PICTURE,) * 3), tmp_path.glob("*.png"), batch):
        found = tagger.predict(images)
        assert [tags.tags for tags in found] == [one.tags] * 3
        for tags in found:
            np.testing.assert_allclose(tags.probabilities, one.probabilities, atol=1e-6)
    with pytest.raises(UserError, match="type int is no image"):
        tagger.predict(3)


def test_classes_thresholds_and_top_choose_what_is_shown(tiny_run: TinyRun, tmp_path: Path):
    tagger = Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")
    whole = tagger.predict(PICTURE)
    part = tagger.predict(PICTURE, classes=["City-Bus", "dog"], heatmaps=True)
    assert part == {"bus": whole["bus"], "dog": whole["dog"]}
    np.testing.assert_array_equal(part.heatmap("dog"), tagger.heatmaps(PICTURE)["dog"])
    assert tagger.tags(PICTURE, threshold=0) == whole.top(6)
    assert tagger.tags([PICTURE], top=2) == [whole.top(2)]
    for name in tagger.names:
        only = {other: 1.0 for other in tagger.names if other != name} | {name: whole[name]}
        assert name in tagger.tags(PICTURE, threshold=only)
    with pytest.raises(UserError, match=r"no class 'dgo'.*did you mean 'dog'"):
        tagger.predict(PICTURE, classes=["dgo"])
    with pytest.raises(UserError, match="no heatmaps"):
        whole.plot()
    assert part.plot(["dog"]).size == (2 * 427, 344) and part.save(tmp_path / "tags.png").exists()
    assert '"dog"' in part.save(tmp_path / "tags.json").read_text()
    with pytest.raises(UserError, match="as a picture"):
        part.save(tmp_path / "tags.exe")
