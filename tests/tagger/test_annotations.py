"""Annotation tools find every tag of every image in what is exported for them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
from PIL import Image

from t2ipal.datasets.read import read_labelled_images
from t2ipal.files import write_jsonl
from t2ipal.tagger.annotations import export_tags
from t2ipal.vocabulary import Vocabulary

NAMES = ("dog", "cat & <co>", "bus")
TAGS = {"a.jpg": ["dog", "bus"], "b/ü 1.png": ["cat & <co>"], "b/none.png": []}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = []
    for number, (name, tags) in enumerate(TAGS.items()):
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        exif = Image.Exif()
        exif[0x0112] = 6  # on its side
        Image.new("RGB", (40, 20)).save(path, exif=exif if number == 0 else None)
        scores = {tag: round(0.9 - 0.1 * n, 4) for n, tag in enumerate(NAMES)}
        rows.append({"image": str(path), "tags": tags, "scores": scores})
    write_jsonl(tmp_path / "tags.jsonl", rows)
    return tmp_path / "tags.jsonl"


def test_coco_is_read_back_with_the_size_that_people_see(source: Path):
    out = export_tags(source, "coco", NAMES)
    assert out == source.with_name("tags.coco.json")
    content = json.loads(out.read_text(encoding="utf-8"))
    assert [(i["width"], i["height"]) for i in content["images"]] == [(20, 40), (40, 20), (40, 20)]
    assert content["annotations"][1]["bbox"] == [0, 0, 20, 40]
    assert content["annotations"][1]["score"] == 0.7
    vocabulary = Vocabulary.of(NAMES)
    read = read_labelled_images(out, vocabulary, images=source.parent / "photos")
    expected = [[name in tags for name in NAMES] for tags in TAGS.values()]
    np.testing.assert_array_equal(read.targets, expected)


def test_fiftyone_gets_classes_by_number_under_the_paths(source: Path):
    content = json.loads(export_tags(source, "fiftyone", NAMES).read_text(encoding="utf-8"))
    found = {
        str(Path(path).relative_to(source.parent / "photos")): [
            content["classes"][one["label"]] for one in labels
        ]
        for path, labels in content["labels"].items()
    }
    assert found == TAGS


def test_label_studio_gets_tasks_with_choices(source: Path):
    tasks = json.loads(export_tags(source, "label-studio", NAMES).read_text(encoding="utf-8"))
    for task, (name, tags) in zip(tasks, TAGS.items(), strict=True):
        path = parse_qs(urlparse(task["data"]["image"]).query)["d"][0]
        assert Path("/", path) == source.parent / "photos" / name
        (result,) = task["predictions"][0]["result"]
        assert result["value"]["choices"] == tags and result["from_name"] == "tags"


def test_cvat_gets_tags_of_images(source: Path):
    root = ET.parse(export_tags(source, "cvat", NAMES)).getroot()
    assert [label.text for label in root.iterfind("meta/task/labels/label/name")] == list(NAMES)
    found = {
        image.attrib["name"]: [tag.attrib["label"] for tag in image.iterfind("tag")]
        for image in root.iterfind("image")
    }
    assert found == TAGS
