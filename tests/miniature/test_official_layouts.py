"""Rehearsal data: every file of the official layouts, which say what the scenes show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from t2ipal.captions.sources import read_captions
from t2ipal.datasets.read import read_labelled_images
from t2ipal.files import sha256_file
from t2ipal.miniature import official_layouts as rehearsal
from t2ipal.vocabulary import Vocabulary

FILES = {
    "voc2007": (
        "VOC2007/ImageSets/Main/test.txt", "VOC2007/ImageSets/Main/trainval.txt",
        "VOC2007/ImageSets/Main/dog_val.txt", "VOC2007/Annotations/000001.xml",
        "VOC2007/JPEGImages/000001.jpg", "annotations/captions_train2014.json",
    ),
    "coco2014": (
        "annotations/instances_val2014.json", "annotations/instances_train2014.json",
        "annotations/captions_train2014.json", "annotations/captions_train2017.json",
        "train2014/COCO_train2014_000000000001.jpg",
    ),
    "nuswide": (
        "ImageList/TestImagelist.txt", "Groundtruth/TrainTestLabels/Labels_dog_Train.txt",
        "open_images_train_v6_captions.jsonl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_class_has_images_to_train_and_to_test_on(name: str, tmp_path: Path) -> None:
    folder, vocabulary = rehearsal.build(name, tmp_path), Vocabulary.load(name)
    for file in FILES[name]:
        assert (folder / file).is_file(), file
    train = {"voc2007": "trainval"}.get(name, "train")
    for split, fewest in (("", 10), (f"?split={train}", 16)):
        found = read_labelled_images(f"{name}:{folder}{split}", vocabulary)
        assert ((found.targets == 1).sum(axis=0) >= fewest).all()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    rehearsal.build(name, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == kept


def test_vocs_lists_and_annotations_agree_and_some_objects_are_difficult(tmp_path: Path) -> None:
    folder, vocabulary = rehearsal.build("voc2007", tmp_path), Vocabulary.load("voc2007")
    lists = read_labelled_images(f"voc2007:{folder}", vocabulary).targets
    assert 0 < (lists == -1).sum() < (lists == 1).sum() / 5
    (folder / "VOC2007" / "ImageSets" / "Main" / "dog_test.txt").unlink()
    assert np.array_equal(read_labelled_images(f"voc2007:{folder}", vocabulary).targets, lists)


def test_cocos_ids_and_the_overlap_of_2017(tmp_path: Path) -> None:
    folder = rehearsal.build("coco2014", tmp_path)
    content = json.loads((folder / "annotations" / "instances_val2014.json").read_text())
    ids = {row["name"]: row["id"] for row in content["categories"]}
    assert (ids["person"], ids["stop sign"], ids["toothbrush"]) == (1, 13, 90) and len(ids) == 80
    tested = {row["id"] for row in content["images"]}
    for year, share in ((2014, 0), (2017, 7 / 8)):
        path = folder / "annotations" / f"captions_train{year}.json"
        described = {int(caption.id.split("-")[0]) for caption in read_captions(path)}
        assert len(tested & described) == int(share * len(tested))


def test_the_same_bytes_everywhere(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "two"):
        folder = rehearsal.build("voc2007", tmp_path / name)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        trees.append({path.relative_to(folder): sha256_file(path) for path in files})
    assert trees[0] == trees[1]
