"""Broken samples: found by their headers, refused in one sentence, or left out and listed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError
from t2ipal.files import pictures
from t2ipal.files.broken import Broken


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A sound picture, and one of each kind of fault."""
    found = {
        kind: tmp_path / f"{kind}.png"
        for kind in ("sound", "empty", "text", "missing", "folder", "pipe", "narrow")
    }
    Image.new("RGB", (8, 6)).save(found["sound"])
    found["empty"].touch()
    found["text"].write_text("hello")
    found["folder"].mkdir()
    os.mkfifo(found["pipe"])
    Image.new("1", (60_000, 1)).save(found["narrow"])
    return found


def test_every_fault_is_found_without_decoding(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    broken = Broken(skip=True)
    assert broken.check(list(files.values()), "set") == [0]
    words = {
        "empty": "is empty", "text": "no format", "missing": "not found", "folder": "a folder",
        "pipe": "a pipe", "narrow": "too narrow",
    }  # fmt: skip
    assert len(broken) == len(words)
    for kind, word in words.items():
        assert word in broken.reasons[str(files[kind])]


def test_one_sentence_names_the_number_the_first_and_the_option(files: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"^set: 6 of 7 images .*empty.png.* and 3 more .* empty"):
        Broken().check(list(files.values()), "set")
    with pytest.raises(UserError, match=r"--skip-broken\.$"):
        Broken().check([files["text"]], "set")
    with pytest.raises(UserError, match=r"1 of 1 .*check the data"):
        Broken(skip=True).check([files["text"]], "set")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_file_that_is_cut_off_is_decoded_to_see_what_is_left(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole, little, most = (tmp_path / f"{name}.{suffix}" for name in ("whole", "little", "most"))
    Image.fromarray(pixels).save(whole)
    data = whole.read_bytes()
    little.write_bytes(data[: len(data) // 3])
    most.write_bytes(data[: len(data) - 40])
    found = pictures.why_unreadable([whole, little, most])
    assert list(found) == [1] and "truncated" in found[1]


def test_too_large(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        Image.new("L", (8400, 6000)).save(tmp_path / name)
    found = pictures.why_unreadable([tmp_path / "a.png", tmp_path / "a.jpg"], max_megapixels=20)
    assert list(found) == [0]  # a JPEG is decoded at half its size
    assert "more than 20 megapixels" in found[0]


def test_labelled_images_keep_their_labels(files: dict[str, Path]) -> None:
    order = ("empty", "sound", "text")
    targets = np.array([[0], [1], [0]], dtype=np.int8)
    images = LabelledImages("set", tuple(files[kind] for kind in order), targets)
    with pytest.raises(UserError, match="2 of 3"):
        images.readable()
    kept = images.readable(Broken(skip=True))
    assert kept.files == (files["sound"],) and kept.targets.tolist() == [[1]]
    assert kept.readable() is kept


def test_the_list(tmp_path: Path) -> None:
    broken = Broken(skip=True)
    assert broken.write(tmp_path) == []
    broken.add("a.jpg", UserError("a.jpg: is empty."))
    (line,) = broken.write(tmp_path)
    path = tmp_path / "broken.jsonl"
    assert "1 image that" in line and str(path) in line
    assert json.loads(path.read_text()) == {"file": "a.jpg", "reason": "is empty."}
    assert Broken(skip=True).write(tmp_path) == [] and not path.exists()
    with pytest.raises(UserError, match=r"a.jpg: is empty, or leave out .* --skip-broken"):
        Broken().add("a.jpg", UserError("a.jpg: is empty."))
