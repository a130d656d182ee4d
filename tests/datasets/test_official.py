"""VOC2007, MS-COCO 2014 and NUS-WIDE in layouts made here, and VOC's real lists where they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2ipal.cli import main
from t2ipal.datasets.official import VOC_CLASSES, _parsed_xml, _read_voc2007
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files.broken import Broken
from t2ipal.vocabulary import Vocabulary

VOC, COCO, NUS = (Vocabulary.load(name) for name in ("voc2007", "coco2014", "nuswide"))
REAL = Path(__file__).parents[3] / "shared" / "data" / "voc2007-lists"
# id -> (class, difficult) of each object
OBJECTS = {
    "000001": [("dog", 0), ("person", 1)],
    "000002": [("person", 1), ("person", 0)],
    "000003": [("diningtable", 1), ("tvmonitor", 0)],
}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit with annotations, without class lists."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("".join(f"{name}\n" for name in OBJECTS))
    (root / "Annotations").mkdir()
    for name, objects in OBJECTS.items():
        image(root / "JPEGImages" / f"{name}.jpg")
        inner = "".join(
            f"<object><name>{n}</name><difficult>{d}</difficult></object>" for n, d in objects
        )
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{inner}</annotation>")
    return tmp_path / "VOCdevkit"


def class_lists(voc: Path) -> None:
    """What the devkit's class lists say of the same annotations."""
    for label in VOC_CLASSES:
        rows = []
        for name, objects in OBJECTS.items():
            marks = [1 - hard for n, hard in objects if n == label]
            rows.append(f"{name} {max(marks, default=-1):2d}\n")
        path = voc / "VOC2007" / "ImageSets" / "Main" / f"{label}_test.txt"
        path.write_text("".join(rows))


def shown(targets: np.ndarray, vocabulary: Vocabulary) -> list[dict[str, int]]:
    """Per image, the classes that are not absent."""
    return [{vocabulary.names[i]: int(row[i]) for i in np.flatnonzero(row)} for row in targets]


def test_voc_reads_annotations_and_lists_alike(voc: Path) -> None:
    found = read_labelled_images(f"voc2007:{voc}", VOC)
    assert shown(found.targets, VOC) == [
        {"dog": 1, "person": -1},
        {"person": 1},
        {"diningtable": -1, "tvmonitor": 1},
    ]
    assert found.names == tuple(f"JPEGImages/{name}.jpg" for name in OBJECTS)
    class_lists(voc)
    shutil.rmtree(voc / "VOC2007" / "Annotations")
    for folder in (voc, voc.parent, voc / "VOC2007"):
        assert np.array_equal(_read_voc2007(folder, VOC).targets, found.targets)
    as_negative = read_labelled_images(f"voc2007:{voc}?difficult=negative", VOC)
    assert np.array_equal(as_negative.targets, np.where(found.targets < 0, 0, found.targets))


def test_voc_under_the_classes_of_another_benchmark(voc: Path) -> None:
    """Cross-dataset: what COCO calls dining table and tv; its other classes are unknown."""
    targets = _read_voc2007(voc, COCO, difficult="negative").targets
    columns = {name: index for index, name in enumerate(COCO.names)}
    assert targets[0, columns["dog"]] == 1 and targets[2, columns["tv"]] == 1
    assert (targets[:, columns["zebra"]] == -1).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="the official lists are not here")
def test_the_official_lists_of_voc(tmp_path: Path) -> None:
    shutil.copytree(REAL, tmp_path / "VOC2007")
    main_folder = tmp_path / "VOC2007" / "ImageSets" / "Main"
    (tmp_path / "VOC2007" / "JPEGImages").mkdir()
    for split, count in (("test", 4952), ("trainval", 5011)):
        for name in (main_folder / f"{split}.txt").read_text().split():
            (tmp_path / "VOC2007" / "JPEGImages" / f"{name}.jpg").touch()
        found = read_labelled_images(f"voc2007:{tmp_path}?split={split}", VOC)
        assert len(found) == count
        if split == "test":
            assert (found.targets[:, VOC.names.index("person")] == 1).sum() == 2007


def test_bad_voc_folders_are_named(voc: Path, tmp_path: Path) -> None:
    def complaint(spec: str) -> str:
        with pytest.raises(UserError) as caught:
            read_labelled_images(spec, VOC)
        return str(caught.value)

    root, spec = voc / "VOC2007", f"voc2007:{voc}"
    (tmp_path / "other").mkdir()
    assert "holds no VOC2007" in complaint(f"voc2007:{tmp_path / 'other'}")
    assert "trainval.txt: there is no such file" in complaint(f"{spec}?split=trainval")
    assert "split must be test or" in complaint(f"{spec}?split=tset")
    assert "unknown option 'dificult' (did you mean 'difficult'" in complaint(f"{spec}?dificult=x")
    xml = root / "Annotations" / "000002.xml"
    good = xml.read_text()
    xml.unlink()
    assert "test.txt:2: " in complaint(spec) and "000002.xml is missing" in complaint(spec)
    xml.write_text("<annotation>\n<object>")
    assert "000002.xml:2: broken XML" in complaint(spec)
    xml.write_text(good.replace("person", "unicorn"))
    assert "shows 'unicorn', which is no class" in complaint(spec)
    xml.write_text(good)
    (root / "JPEGImages" / "000003.jpg").unlink()
    assert "test.txt:3: 1 of 3 images are not on disk" in complaint(spec)
    image(root / "JPEGImages" / "000003.jpg")
    names = root / "ImageSets" / "Main" / "test.txt"
    names.write_text("000001\n000002\n000001\n")
    assert "test.txt:3: 000001.jpg is listed already in line 1" in complaint(spec)
    names.write_text("".join(f"{name}\n" for name in OBJECTS))
    class_lists(voc)
    lists = root / "ImageSets" / "Main" / "dog_test.txt"
    lists.write_text("000001 1\n000002 2\n000003 -1\n")
    assert "dog_test.txt:2: expected an id and 1, 0 or -1" in complaint(spec)
    lists.write_text("000001 1\n000003 -1\n000002 -1\n")
    assert "dog_test.txt:2: is about 000003, not 000002" in complaint(spec)
    lists.write_text("000001 1\n")
    assert "dog_test.txt: has 1 lines, test.txt has 3" in complaint(spec)


@pytest.fixture
def nus(tmp_path: Path) -> Path:
    """Four images, all 81 concepts, of which animal, dog and sky are shown."""
    root = tmp_path / "NUS-WIDE"
    labels = root / "Groundtruth" / "TrainTestLabels"
    labels.mkdir(parents=True)
    (root / "ImageList").mkdir()
    names = [f"actor\\000{n}_{n}.jpg" for n in range(4)]
    (root / "ImageList" / "TestImagelist.txt").write_text("".join(f"{n}\r\n" for n in names))
    for name in names:
        image(root / "Flickr" / name.replace("\\", "/"))
    columns = {"dog": "1000", "animal": "1100", "sky": "0010"}
    for concept in NUS.names:
        text = "\n".join(columns.get(concept, "0000")) + "\n"
        (labels / f"Labels_{concept}_Test.txt").write_text(text)
    return root


def test_nuswide_in_its_lists(nus: Path, tmp_path: Path) -> None:
    found = read_labelled_images(f"nuswide:{nus}", NUS)
    assert len(found) == 4 and found.source == "NUS-WIDE test, all images"
    assert shown(found.targets, NUS) == [{"animal": 1, "dog": 1}, {"animal": 1}, {"sky": 1}, {}]
    labelled = read_labelled_images(f"nuswide:{nus}?images=labelled", NUS)
    assert len(labelled) == 3 and "with a label" in labelled.source
    (tmp_path / "mine.txt").write_text("actor/0003_3.jpg\nactor\\0000_0.jpg\n")
    mine = read_labelled_images(f"nuswide:{nus}?images={tmp_path / 'mine.txt'}", NUS)
    assert mine.names == ("Flickr/actor/0003_3.jpg", "Flickr/actor/0000_0.jpg")
    assert shown(mine.targets, NUS) == [{}, {"animal": 1, "dog": 1}]


def test_nuswide_in_one_flat_folder(nus: Path) -> None:
    for path in list((nus / "Flickr" / "actor").iterdir()):
        path.rename(nus / "Flickr" / path.name)
    (nus / "Flickr" / "actor").rmdir()
    found = read_labelled_images(f"nuswide:{nus}", NUS)
    assert [file.name for file in found.files] == [f"000{n}_{n}.jpg" for n in range(4)]
    found.files[2].unlink()
    left = read_labelled_images(f"nuswide:{nus}", NUS, broken=Broken(skip=True))
    assert shown(left.targets, NUS) == [{"animal": 1, "dog": 1}, {"animal": 1}, {}]
    assert left.skipped == 1


def test_bad_nuswide_folders_are_named(nus: Path, tmp_path: Path) -> None:
    def complaint(spec: str) -> str:
        with pytest.raises(UserError) as caught:
            read_labelled_images(spec, NUS)
        return str(caught.value)

    spec = f"nuswide:{nus}"
    assert "TestImagelist.txt: there is no such file" in complaint(f"nuswide:{tmp_path}")
    (tmp_path / "mine.txt").write_text("actor/0000_0.jpg\nactor/9.jpg\n")
    assert "mine.txt:2: actor/9.jpg is not in" in complaint(f"{spec}?images={tmp_path}/mine.txt")
    dog = nus / "Groundtruth" / "TrainTestLabels" / "Labels_dog_Test.txt"
    dog.write_text("1\n0\n0\n")
    assert "Labels_dog_Test.txt: has 3 labels for 4 images" in complaint(spec)
    dog.write_text("1\n0\nx\n0\n")
    assert "Labels_dog_Test.txt:3: expected 1 or 0, found 'x'" in complaint(spec)
    dog.write_text("1\n0\n0\n0\n")
    (tmp_path / "mine.txt").write_text("actor/0000_0.jpg\n\nactor/0000_0.jpg\n")
    twice = complaint(f"{spec}?images={tmp_path}/mine.txt")
    assert "mine.txt:3: 0000_0.jpg is listed already in line 1" in twice
    (tmp_path / "mine.txt").write_text("")
    assert "mine.txt: lists no image" in complaint(f"{spec}?images={tmp_path}/mine.txt")
    (nus / "Flickr" / "actor" / "0002_2.jpg").unlink()
    assert "TestImagelist.txt:3: 1 of 4 images" in complaint(spec)
    dog.write_text("0\n0\n0\n0\n")
    animal = dog.with_name("Labels_animal_Test.txt")
    animal.write_text("0\n0\n0\n0\n")
    # The third image is the first with a label now, and still in the third line.
    assert "TestImagelist.txt:3: 1 of 1 images" in complaint(f"{spec}?images=labelled")
    names = nus / "ImageList" / "TestImagelist.txt"
    names.write_text(names.read_text() + "actor\\0000_0.jpg\n")
    for path in dog.parent.iterdir():
        path.write_text(path.read_text() + "0\n")
    assert "TestImagelist.txt:5: 0000_0.jpg is listed already in line 1" in complaint(spec)
    shutil.rmtree(dog.parent)
    assert "TrainTestLabels: holds no Labels_*_Test.txt" in complaint(spec)


def test_coco2014_is_its_instances_beside_their_folder(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 18}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    for name in ("a.jpg", "b.jpg"):
        image(tmp_path / "val2014" / name)
    found = read_labelled_images(f"coco2014:{tmp_path}", COCO)
    assert found.source == "MS-COCO 2014 val" and len(found) == 2
    assert found.targets[0, COCO.names.index("dog")] == 1
    with pytest.raises(UserError, match=r"instances_train2014\.json: there is no such file"):
        read_labelled_images(f"coco2014:{tmp_path}?split=train", COCO)


def test_bad_coco_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "annotations" / "instances_val2014.json"
    path.parent.mkdir()
    image(tmp_path / "val2014" / "a.jpg")
    good = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 18}],
        "categories": [{"id": 18, "name": "dog"}],
    }

    def complaint(change: dict[str, object]) -> str:
        path.write_text(json.dumps({**good, **change}, indent=1))
        with pytest.raises(UserError) as caught:
            read_labelled_images(f"coco2014:{tmp_path}", COCO)
        return str(caught.value)

    image_row, annotation = good["images"][0], good["annotations"][0]
    assert "annotation 7 is of unknown category id 99" in complaint(
        {"annotations": [{**annotation, "category_id": 99}]}
    )
    assert "annotation 7 is of unknown image id 9" in complaint(
        {"annotations": [{**annotation, "image_id": 9}]}
    )
    assert "image id 1 is listed twice" in complaint({"images": [image_row, image_row]})
    assert "1 of 1 images are missing" in complaint({"images": [{"id": 1, "file_name": "b.jpg"}]})
    path.write_text(json.dumps(good, indent=1)[:-40])
    with pytest.raises(UserError, match=r"instances_val2014\.json:\d+: broken JSON"):
        read_labelled_images(f"coco2014:{tmp_path}", COCO)
    with pytest.raises(UserError, match="there is no such file; unpack annotations_trainval2014"):
        read_labelled_images(f"coco2014:{tmp_path / 'val2014'}", COCO)


def test_doctor_counts_a_benchmark(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data", f"voc2007:{voc}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    data = [line for line in lines if line[8:].startswith("data")]
    assert "VOC2007 test: 3 images, 3 labels present" in data[0]
    assert "2 labels are unknown" in data[1]
    assert data[-1].startswith("MISSING")
    assert "the official split has 4,952 images" in data[-1]
    assert main(["doctor", "--data", f"voc2007:{voc / 'VOC2007' / 'JPEGImages'}"]) == 1
    assert "holds no VOC2007" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("declared", "codec"),
    [("GB2312", "gb2312"), ("gbk", "gbk"), ("Shift_JIS", "shift_jis"), ("latin-1", "latin-1"),
     ("UTF-16", "utf-16"), ("utf-8", "utf-8-sig")],
)  # fmt: skip
def test_annotations_in_the_encodings_of_other_tools(
    declared: str, codec: str, tmp_path: Path
) -> None:
    path = tmp_path / "1.xml"
    name = "狗" if codec in ("gb2312", "gbk") else "犬" if codec == "shift_jis" else "dog"
    text = (
        f'<?xml version="1.0" encoding="{declared}"?>\n<annotation><name>{name}</name></annotation>'
    )
    path.write_bytes(text.encode(codec))
    assert _parsed_xml(path).findtext("name") == name


def test_annotations_in_an_unknown_encoding(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    path.write_bytes(b'<?xml version="1.0" encoding="klingon"?><annotation/>')
    with pytest.raises(UserError, match=r"1.xml: says that its encoding is 'klingon'"):
        _parsed_xml(path)
