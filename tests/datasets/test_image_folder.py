"""Images in folders named by class."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.vocabulary import Vocabulary

VOC = Vocabulary.load("voc2007")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in (
        "dog/b.png",
        "dog/a.png",
        "Potted_Plant/deep/c.png",
        "couch/d.png",
        ".cache/x.png",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("mine")
    return root


def test_a_folder_names_the_one_class_of_its_images(photos: Path) -> None:
    found = read_labelled_images(photos, VOC)
    assert found.names == ("Potted_Plant/deep/c.png", "couch/d.png", "dog/a.png", "dog/b.png")
    shown = [VOC.names[int(np.flatnonzero(row == 1)[0])] for row in found.targets]
    assert shown == ["pottedplant", "sofa", "dog", "dog"]
    assert (found.targets == 1).sum() == 4 and (found.targets == 0).sum() == 4 * 19
    unknown = read_labelled_images(f"{photos}?others=unknown", VOC)
    assert np.array_equal(unknown.targets, np.where(found.targets == 1, 1, -1))
    absent = read_labelled_images(f"{photos}?others=absent", VOC)
    assert np.array_equal(absent.targets, found.targets)


def test_an_image_in_two_folders_shows_both_classes(photos: Path) -> None:
    (photos / "couch" / "again.png").symlink_to(photos / "dog" / "a.png")
    found = read_labelled_images(photos, VOC)
    assert len(found) == 4 and len(set(found.names)) == 4
    row = found.targets[[file.resolve() for file in found.files].index(photos / "dog" / "a.png")]
    assert {VOC.names[c] for c in np.flatnonzero(row == 1)} == {"dog", "sofa"}


def test_what_is_left_out_is_said(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2ipal.files.pictures._register_heif", lambda: False)
    (photos / "cat").mkdir()
    (photos / "cat" / "1.HEIC").touch()
    (line,) = read_labelled_images(photos, VOC).lines()
    assert "1 .heic (pip install pillow-heif)" in line
    assert "2 folders without an image ('cat', 'empty')" in line
    for name in ("dog", "couch", "Potted_Plant"):
        shutil.rmtree(photos / name)
    with pytest.raises(UserError, match=r"no image in its folders .*heic"):
        read_labelled_images(photos, VOC)


def test_what_is_wrong_is_named(photos: Path) -> None:
    def complaint(spec: object) -> str:
        with pytest.raises(UserError) as caught:
            read_labelled_images(str(spec), VOC)
        return str(caught.value)

    assert "expected others=absent or others=unknown" in complaint(f"{photos}?others=none")
    assert "expected others=absent or others=unknown" in complaint(f"{photos}?other=unknown")
    (photos / "couch").rename(photos / "hrose")
    assert "unknown class 'hrose' (did you mean 'horse'?)" in complaint(photos)
    (photos / "hrose").rename(photos / "puppy")
    assert "is about class 'dog', as the folder 'dog' is" in complaint(photos)
    (photos / "puppy").rename(photos / "horse")
    Image.new("RGB", (4, 4)).save(photos / "loose.JPG", "JPEG")
    assert "loose.JPG: lies in no class's folder" in complaint(photos)
    (photos / "labels.csv").write_text("image,labels\nloose.JPG,dog\n")
    assert len(read_labelled_images(photos, VOC)) == 1  # labels.csv goes first
    assert "'others' is for folders named by class" in complaint(f"{photos}?others=unknown")
    (photos / "labels.csv").unlink()
    assert "holds no labels.csv; add one" in complaint(photos / "empty")
