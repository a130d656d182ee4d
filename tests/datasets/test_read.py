"""Labelled images in every form a user may bring, and what is said about a bad one."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import t2ipal.miniature
from t2ipal.datasets.labelled_images import ClassNames
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files.broken import Broken
from t2ipal.vocabulary import ClassName, Vocabulary

PETS = Vocabulary(
    "pets",
    (
        ClassName("dog", "dog", ("puppy", "hound")),
        ClassName("aeroplane", "airplane", ("plane",)),
        ClassName("diningtable", "dining table", ("table",)),
        ClassName("person", "person", ("boy",)),
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images a.png, b.png and sub/c.png."""
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def put(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def test_labels_form_absent_unless_named(folder):
    put(folder, "image,labels\na.png,dog|person\nb.png,\nsub/c.png, Airplane | dining table \n")
    read = read_labelled_images(folder, PETS)
    assert [file.name for file in read.files] == ["a.png", "b.png", "c.png"]
    assert read.targets.dtype == np.int8
    assert read.targets.tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]]
    assert len(read) == 3 and read.take([2, 0]).files == (read.files[2], read.files[0])
    assert read.take([2, 0]).targets.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]


def test_column_form_with_unknown_cells_and_unknown_classes(folder):
    put(folder, "image,person,dog\r\na.png,1,0\r\nb.png,,1\r\n\r\n")
    read = read_labelled_images(folder / "labels.csv", PETS)
    assert read.targets.tolist() == [[0, -1, -1, 1], [1, -1, -1, -1]]


def test_a_quoted_name_may_hold_a_comma(folder):
    Image.new("RGB", (4, 4)).save(folder / "d, e.png")
    put(folder, '\ufeffimage,labels\n"d, e.png",dog\n')
    assert read_labelled_images(folder, PETS).files == (folder / "d, e.png",)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "the file is empty"),
        ("pictures,labels\na.png,dog\n", 1, "expected the header"),
        ("image,labels\n", None, "lists no image"),
        ("image,labels\na.png,dog\nb.png,dgo\n", 3, r"unknown class 'dgo' \(did you mean 'dog'"),
        ("image,dog,persn\na.png,1,0\n", 1, r"unknown class 'persn' \(did you mean 'person'"),
        ("image,labels\na.png,girl\n", 2, "unknown class 'girl'"),
        ("image,dog,dog\na.png,1,0\n", 1, "two columns for class 'dog'"),
        ("image,labels\na.png,dog\n\nz.png,dog\n", 4, "no image 'z.png'"),
        ("image,labels\n,dog\n", 2, "no image ''"),
        ("image,labels\na.png,dog\nb.png,\na.png,person\n", 4, "already listed in line 2"),
        ("image,labels\na.png,dog,person\n", 2, "3 cells where the header has 2"),
        ("image,dog\na.png,maybe\n", 2, "'maybe' in column 'dog'"),
        ('image,labels\n"a.png,dog\n', 2, "broken row"),
    ],
)
def test_a_bad_labels_file_is_named_with_its_line(folder, text, line, message):
    put(folder, text)
    place = f"labels.csv:{line}: " if line else "labels.csv: "
    with pytest.raises(UserError, match=message) as caught:
        read_labelled_images(folder, PETS)
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_labels_file_that_is_no_text(folder):
    (folder / "labels.csv").write_bytes(b"image,labels\na.png,\0\xff\xfe\n")
    with pytest.raises(UserError, match=r"labels.csv:2: is no text"):
        read_labelled_images(folder, PETS)


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match=r"holds no labels\.csv"):
        read_labelled_images(tmp_path, PETS)
    with pytest.raises(UserError, match="no such folder or file"):
        read_labelled_images(tmp_path / "absent", PETS)


def coco(**changes: object) -> dict[str, object]:
    """Two images; categories dog, plane (a synonym), zebra (not in the vocabulary)."""
    content: dict[str, object] = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 5, "file_name": "b.png"}],
        "categories": [
            {"id": 18, "name": "Dog"},
            {"id": 2, "name": "plane"},
            {"id": 90, "name": "zebra"},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 2, "iscrowd": 1},
            {"id": 2, "image_id": 5, "category_id": 2, "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 90},
        ],
    }
    return content | changes


def put_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@given(st.lists(st.sampled_from([str, int, float]), min_size=8, max_size=8))
def test_ids_of_coco_are_numbers_or_text(tmp_path_factory, kinds):
    kind = iter(kinds)
    content: Any = coco()
    for row in (*content["images"], *content["categories"]):
        row["id"] = next(kind)(row["id"])
    for row in content["annotations"]:
        row["image_id"] = next(kind)(row["image_id"])
    folder = tmp_path_factory.mktemp("ids")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    found = read_labelled_images(put_json(folder / "instances.json", content), PETS)
    assert found.targets.tolist() == [[0, 0, -1, -1], [0, 1, -1, -1]]


def test_coco_json_beside_near_and_apart_from_its_images(folder):
    expected = [[0, 0, -1, -1], [0, 1, -1, -1]]  # classes without a category are unknown
    beside = read_labelled_images(put_json(folder / "instances.json", coco()), PETS)
    assert beside.targets.tolist() == expected
    assert beside.ignored == ("zebra",)
    assert beside.files == (folder / "a.png", folder / "b.png")
    (folder / "val2017").mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "val2017" / name)
    near = read_labelled_images(put_json(folder / "annotations" / "instances.json", coco()), PETS)
    assert near.files == (folder / "val2017" / "a.png", folder / "val2017" / "b.png")
    far = put_json(folder / "x" / "y" / "instances.json", coco())
    with pytest.raises(UserError, match="name the folder of the images with --data-folder"):
        read_labelled_images(far, PETS)
    found = read_labelled_images(far, PETS, images=folder / "val2017")
    assert found.targets.tolist() == expected
    with pytest.raises(UserError, match="no such folder"):
        read_labelled_images(far, PETS, images=folder / "val2014")


def test_a_word_may_name_several_classes_its_own_first():
    vocabulary = Vocabulary(
        "both",
        (ClassName("vehicle", "vehicle", ("truck",)), ClassName("truck", "truck", ("vehicle",))),
    )
    known = ClassNames(vocabulary)
    assert known.find("vehicle") == (0, 1) and known.find("Trucks") == (1, 0)
    assert known.find("car") == ()


CARS = Vocabulary(
    "cars",
    (
        ClassName("vehicle", "vehicle", ("car", "truck")),
        ClassName("car", "car"),
        ClassName("dining_table", "dining table"),
    ),
)


@pytest.mark.parametrize("name", ["dining table", "Dining-Table ", "dining_tables", "DiningTABLE"])
def test_spellings_of_a_class(folder, name):
    put(folder, f"image,labels\na.png,{name}\nb.png,\n")
    if name == "DiningTABLE":  # a word of its own
        with pytest.raises(UserError, match="unknown class"):
            read_labelled_images(folder, CARS)
    else:
        assert read_labelled_images(folder, CARS).targets[:, 2].tolist() == [1, 0]


def test_a_car_is_a_vehicle_in_every_reader(folder, tmp_path):
    put(folder, "image,labels\na.png,car\nb.png,truck\n")
    assert read_labelled_images(folder, CARS).targets.tolist() == [[1, 1, 0], [1, 0, 0]]
    put(folder, "image,car\na.png,1\nb.png,0\n")  # no car: there may be another vehicle
    assert read_labelled_images(folder, CARS).targets.tolist() == [[1, 1, -1], [-1, 0, -1]]
    categories = [{"id": 18, "name": "cars"}]
    annotations = [{"id": 1, "image_id": 7, "category_id": 18}]
    path = put_json(folder / "i.json", coco(categories=categories, annotations=annotations))
    assert read_labelled_images(path, CARS).targets.tolist() == [[1, 1, -1], [-1, 0, -1]]
    for name in ("cars", "dining-table"):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "sorted" / name / "1.png")
    read = read_labelled_images(tmp_path / "sorted", CARS)
    assert read.targets.tolist() == [[1, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    "text",
    [
        "image;labels\na.png;dog|person\nb.png;\n",
        "file_name\ttags\na.png\tdog, person\nb.png\t\n",
        "Image,Label\r\na.png,dog;people\r\nb.png,-\r\n",
        "image,labels,dog,person\na.png,dog|person,0.9,0.8\nb.png,,0.1,0.2\n",
    ],
)
def test_layouts_of_labels(folder, text):
    put(folder, text)
    read = read_labelled_images(folder, PETS)
    assert read.targets.tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]


def test_cells_of_pandas_and_spreadsheets(folder):
    put(folder, "image,dog,person\na.png,1.0,False\nb.png,-1,TRUE\nsub\\c.png,nan,0\n")
    read = read_labelled_images(folder, PETS)
    dog, person = PETS.index("dog"), PETS.index("person")
    assert read.targets[:, [dog, person]].tolist() == [[1, 0], [-1, 1], [-1, 0]]


def test_json_lines_of_predict(folder):
    path = folder / "tags.jsonl"
    path.write_text('{"image": "a.png", "tags": ["dog"], "scores": {}}\n')
    assert read_labelled_images(path, PETS).targets.sum() == 1


def test_a_coco_file_between_two_folders(folder, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.new("RGB", (4, 4)).save(tmp_path / "data" / split / name)
    named = put_json(tmp_path / "data" / "annotations" / "instances_val.json", coco())
    assert read_labelled_images(named, PETS).folder == tmp_path / "data" / "val"
    other = put_json(tmp_path / "data" / "annotations" / "labels.json", coco())
    with pytest.raises(UserError, match=r"train.*val.*--data-folder"):
        read_labelled_images(other, PETS)


def test_what_lvis_did_not_look_for_is_unknown(folder):
    content = coco(
        images=[
            {"id": 7, "coco_url": "http://x.org/sub/a.png", "neg_category_ids": [2, 44]},
            {"id": 5, "coco_url": "http://x.org/sub/c.png", "neg_category_ids": [],
             "not_exhaustive_category_ids": [2]},
        ],
        categories=[{"id": 2, "name": "dog"}, {"id": 3, "name": "person"},
                    {"id": 44, "name": "cow"}],
        annotations=[{"id": 1, "image_id": 7, "category_id": 3},
                     {"id": 2, "image_id": 5, "category_id": 2}],
    )  # fmt: skip
    Image.new("RGB", (4, 4)).save(folder / "sub" / "a.png")
    read = read_labelled_images(put_json(folder / "lvis.json", content), PETS)
    assert read.targets.tolist() == [[0, -1, -1, 1], [1, -1, -1, -1]]
    (line,) = read.lines()
    assert "3 of 8 labels known" in line and "categories without a class: 'cow'" in line
    content["images"][0]["neg_category_ids"] = [99]
    with pytest.raises(UserError, match="image 7 has unknown category 99"):
        read_labelled_images(put_json(folder / "lvis.json", content), PETS)


@pytest.mark.parametrize("kind", ["labels.csv", "instances.json"])
def test_missing_images_can_be_left_out(folder, kind):
    if kind == "labels.csv":
        path = put(folder, "image,labels\na.png,dog\ngone.png,dog\nb.png,\n") / kind
    else:
        images = [{"id": i, "file_name": n} for i, n in ((7, "a.png"), (5, "gone.png"))]
        path = put_json(folder / kind, coco(images=images))
    with pytest.raises(UserError, match="--skip-broken"):
        read_labelled_images(path, PETS)
    broken = Broken(skip=True)
    read = read_labelled_images(path, PETS, broken=broken)
    assert folder / "gone.png" not in read.files and read.skipped == 1
    assert list(broken.reasons) == [str(folder / "gone.png")]
    assert "1 more cannot be read and is left out" in read.lines()[0]
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"missing|none of its images"):
        read_labelled_images(path, PETS, broken=Broken(skip=True))


def test_what_was_guessed_and_left_out_is_said(folder, tmp_path):
    put(folder, "image,labels\na.png,dog\n")
    assert read_labelled_images(folder, PETS).lines() == [
        f"read 1 image from {folder}; left out: 1 image that labels.csv does not list ('b.png')"
    ]
    path = put_json(tmp_path / "annotations" / "instances.json", coco())
    (line,) = read_labelled_images(path, PETS).lines()
    assert f"images of {tmp_path} (guessed; --data-folder names another)" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "no list of objects 'images'|'annotations'"),
        ([1, 2], "no list of objects 'images'"),
        (coco(categories=[]), "none of its 0 categories"),
        (coco(categories=[{"id": 1, "name": "zebra"}]), "none of its 1 categories"),
        (coco(images=[]), "lists no image"),
        (coco(images=[{"id": 1}]), "image 1 has no 'file_name'"),
        (
            coco(images=[{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]),
            "image id 1 is listed twice",
        ),
        (
            coco(
                images=[{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "./a.png"}],
                annotations=[],
            ),
            "image 'a.png' is listed twice",
        ),
        (
            coco(annotations=[{"id": 4, "image_id": 8, "category_id": 2}]),
            "annotation 4 is of unknown image id 8",
        ),
        (
            coco(annotations=[{"id": 4, "image_id": 7, "category_id": 77}]),
            "annotation 4 is of unknown category id 77",
        ),
        (
            coco(
                images=[{"id": 7, "file_name": "a.png"}, {"id": 5, "file_name": "gone.png"}],
            ),
            "1 of 2 images are missing .* the first is 'gone.png'",
        ),
    ],
)
def test_a_bad_coco_json_is_named(folder, content, message):
    path = put_json(folder / "instances.json", content)
    with pytest.raises(UserError, match=message) as caught:
        read_labelled_images(path, PETS)
    assert str(path) in str(caught.value)


def test_a_truncated_json_is_named_with_its_line(folder):
    path = folder / "instances.json"
    path.write_text(json.dumps(coco(), indent=1)[:60], encoding="utf-8")
    with pytest.raises(UserError, match=r"instances.json:\d+: broken JSON .*cut short"):
        read_labelled_images(path, PETS)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """A renderer that writes the same files as the miniature's and counts its calls."""
    code = tmp_path / "code" / "scenes.py"
    code.parent.mkdir()
    code.write_text("first", encoding="utf-8")
    module = types.ModuleType("t2ipal.miniature.scenes")
    module.__file__ = str(code)
    module.calls = []

    def write_test_set(folder: Path, n: int, *, seed: int, split: str, names: list[str]) -> None:
        module.calls.append((n, seed, split))
        rows = [f"{i}.png,{names[i % len(names)]}" for i in range(n)]
        for i in range(n):
            Image.new("RGB", (4, 4)).save(folder / f"{i}.png")
        (folder / "labels.csv").write_text("\n".join(["image,labels", *rows]), encoding="utf-8")

    module.write_test_set = write_test_set
    monkeypatch.setitem(sys.modules, "t2ipal.miniature.scenes", module)
    monkeypatch.setattr(t2ipal.miniature, "scenes", module, raising=False)
    return module


def test_miniature_scenes_are_drawn_once_and_again_after_a_change(scenes, tmp_path):
    cache = tmp_path / "cache"
    read = read_labelled_images("miniature:4", PETS, cache=cache, seed=3)
    again = read_labelled_images("miniature:4", PETS, cache=cache, seed=3)
    assert scenes.calls == [(4, 3, "test")]
    assert read.files == again.files and len(read) == 4
    assert (read.targets >= 0).all() and (read.targets.sum(axis=1) == 1).all()
    read_labelled_images("miniature:known:2", PETS, cache=cache)
    Path(scenes.__file__).write_text("second", encoding="utf-8")
    read_labelled_images("miniature:4", PETS, cache=cache, seed=3)
    assert scenes.calls[1:] == [(2, 0, "known"), (4, 3, "test")]


def test_another_process_may_draw_the_same_scenes_meanwhile(scenes, tmp_path):
    cache, draw = tmp_path / "cache", scenes.write_test_set

    def draw_twice(folder: Path, n: int, **options) -> None:
        draw(folder, n, **options)
        theirs = folder.with_name(re.sub(r"\.[\w-]+\.partial$", "", folder.name[1:]))
        theirs.mkdir()
        draw(theirs, n, **options)

    scenes.write_test_set = draw_twice
    read = read_labelled_images("miniature:4", PETS, cache=cache)
    assert scenes.calls == [(4, 0, "test")] * 2 and len(read) == 4
    assert not [path for path in cache.iterdir() if "partial" in path.name]


def test_scenes_half_drawn_leave_nothing(scenes, tmp_path, monkeypatch):
    def fail(folder: Path, n: int, *, seed: int, split: str, names: list[str]) -> None:
        (folder / "0.png").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "write_test_set", fail)
    with pytest.raises(KeyboardInterrupt):
        read_labelled_images("miniature:4", PETS, cache=tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.parametrize("spec", ["miniature:0", "miniature:many", "miniature:test:3:4"])
def test_a_bad_miniature_spec(scenes, spec, tmp_path):
    with pytest.raises(UserError, match="expected miniature"):
        read_labelled_images(spec, PETS, cache=tmp_path)


def test_the_miniature_needs_a_cache_and_a_class_it_shows(scenes, tmp_path):
    with pytest.raises(UserError, match="cache folder"):
        read_labelled_images("miniature", PETS)
    with pytest.raises(UserError, match="show no class of the vocabulary 'classes'"):
        read_labelled_images("miniature:2", Vocabulary.of(["quark"]), cache=tmp_path)


def test_real_scenes_show_what_is_asked_for_under_the_names_of_the_vocabulary(tmp_path):
    vocabulary = Vocabulary(
        "four",
        (
            ClassName("airplane", "airplane", ("aeroplane",)),
            ClassName("apple", "apple"),
            ClassName("duck", "duck"),  # a word for some birds of the miniature's world
            ClassName("quark", "quark"),
        ),
    )
    read = read_labelled_images("miniature:64", vocabulary, cache=tmp_path)
    assert len(read) == 64 and read.source == "64 miniature scenes, cluttered"
    airplane, apple, duck, quark = read.targets.T.tolist()
    assert set(airplane) == set(apple) == {0, 1}
    assert set(duck) == {0, -1}
    assert set(quark) == {0}
    with Image.open(read.files[0]) as image:
        assert image.size == (64, 64)


@pytest.mark.skipif(
    "T2IPAL_SHARED_DATA" not in os.environ, reason="T2IPAL_SHARED_DATA names no data folder"
)
def test_fifty_real_coco_photos():
    data = Path(os.environ["T2IPAL_SHARED_DATA"]) / "coco-sample"
    path = data / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    read = read_labelled_images(path, Vocabulary.load("coco2014"))
    assert len(read) == 50 and read.ignored == ()
    assert not (read.targets == -1).any()
    pairs = {(row["image_id"], row["category_id"]) for row in content["annotations"]}
    assert (read.targets == 1).sum() == len(pairs)
    voc = read_labelled_images(path, Vocabulary.load("voc2007"))
    assert not (voc.targets == -1).any()  # all twenty are COCO categories under other names


@pytest.mark.parametrize(
    "how",
    [
        "an image is gone",
        "an image is another",
        "a row is gone",
        "the list is cut",
        "a label is edited",
    ],
)
def test_scenes_that_were_changed_are_made_anew(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = read_labelled_images("miniature:4", PETS, cache=tmp_path)
    table = first.files[0].parent / "labels.csv"
    whole = table.read_bytes()
    if how == "an image is gone":
        first.files[1].unlink()
    elif how == "an image is another":
        shutil.copy(first.files[0], first.files[1])
    elif how == "a label is edited":
        table.write_bytes(re.sub(rb"(00000.png,).*", rb"\1", whole))
    else:
        table.write_bytes(whole[: whole.rindex(b"0") - 5] if "row" in how else whole[:-3])
        if "row" in how:
            table.write_bytes(b"\n".join(whole.split(b"\n")[:-2]) + b"\n")
    again = read_labelled_images("miniature:4", PETS, cache=tmp_path)
    assert table.read_bytes() == whole and all(file.is_file() for file in again.files)
    assert "made anew" in caplog.text


def test_scenes_without_number_are_refused(tmp_path: Path) -> None:
    for count in ("0", "1000001", "9" * 5000):
        with pytest.raises(UserError, match="N at most 1000000"):
            read_labelled_images(f"miniature:{count}", PETS, cache=tmp_path)
