"""PASCAL VOC2007 as its devkit lays it out (host.robots.ox.ac.uk/pascal/VOC/voc2007).

    VOC2007/ImageSets/Main/test.txt             ids of a split, a line each
    VOC2007/ImageSets/Main/dog_test.txt         id and 1 (present), 0 (only difficult), -1 (absent)
    VOC2007/Annotations/000001.xml              objects with their names and difficult marks
    VOC2007/JPEGImages/000001.jpg

The class lists are read where all twenty are there, the annotations otherwise; both say the same.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from t2ipal.datasets.labelled_images import LabelledImages, Labels
from t2ipal.datasets.official import Columns, checked, wanted_file
from t2ipal.errors import UserError
from t2ipal.files.broken import Broken
from t2ipal.files.tables import text_lines
from t2ipal.vocabulary import UNKNOWN, Vocabulary

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""What MS-COCO calls these classes."""

OFFICIAL = {"test": 4952, "trainval": 5011, "train": 2501, "val": 2510}
DIFFICULT = {"unknown": UNKNOWN, "negative": 0}
_ARCHIVES = "unpack VOCtest_06-Nov-2007.tar and VOCtrainval_06-Nov-2007.tar"


def read_voc2007(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    split: str = "test",
    difficult: str = "unknown",
    broken: Broken | None = None,
) -> LabelledImages:
    """Read a split for the classes of ``vocabulary``.

    Args:
        folder: ``VOC2007``, ``VOCdevkit`` or what holds it.
        split: test, trainval, train or val.
        difficult: the label of a class of which an image shows difficult objects alone:
            ``unknown``, as in the challenge's own evaluation, or ``negative``, as in TaI-DPT.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: another folder, a missing or broken file, a missing image; it is named.
    """
    folder = _find(folder)
    list_file = wanted_file(folder / "ImageSets" / "Main" / f"{split}.txt", _ARCHIVES)
    listed = [(number, line.strip()) for number, line in text_lines(list_file) if line.strip()]
    lines, ids = [number for number, _ in listed], [name for _, name in listed]
    if not ids:
        raise UserError(f"{list_file}: lists no image; {_ARCHIVES}.")
    columns = Columns(CLASSES, vocabulary, str(folder), COCO_NAMES)
    marks = _from_lists(list_file, ids, columns.names)
    if marks is None:
        marks = _from_annotations(folder, list_file, listed, columns.names)
    labels = np.where(marks == 0, DIFFICULT[difficult], np.maximum(marks, 0)).astype(np.int8)
    files = [folder / "JPEGImages" / f"{name}.jpg" for name in ids]
    return checked(f"VOC2007 {split}", list_file, files, labels, columns, folder, lines, broken)


def _find(folder: Path) -> Path:
    for inner in (folder, folder / "VOC2007", folder / "VOCdevkit" / "VOC2007"):
        if (inner / "ImageSets").is_dir():
            return inner
    raise UserError(f"{folder}: holds no VOC2007 with ImageSets; {_ARCHIVES} and name VOCdevkit.")


def _from_lists(list_file: Path, ids: list[str], classes: Sequence[str]) -> Labels | None:
    """Marks 1, 0, -1 [N, names] of the class lists; None unless all of them are there."""
    paths = [list_file.with_name(f"{name}_{list_file.stem}.txt") for name in classes]
    if not all(path.is_file() for path in paths):
        return None
    marks = np.empty((len(ids), len(classes)), dtype=np.int8)
    for column, path in enumerate(paths):
        rows = [(number, line.split()) for number, line in text_lines(path) if line.strip()]
        if len(rows) != len(ids):
            raise UserError(f"{path}: has {len(rows)} lines, {list_file.name} has {len(ids)}.")
        for row, (number, parts) in enumerate(rows):
            if len(parts) != 2 or parts[1] not in ("1", "0", "-1"):
                raise UserError(f"{path}:{number}: expected an id and 1, 0 or -1.")
            if parts[0] != ids[row]:
                raise UserError(f"{path}:{number}: is about {parts[0]}, not {ids[row]}.")
            marks[row, column] = int(parts[1])
    return marks


def _from_annotations(
    folder: Path, list_file: Path, listed: list[tuple[int, str]], classes: Sequence[str]
) -> Labels:
    """The same marks from the annotations: 0 where all objects of a class are difficult.

    ``listed`` are the ids with their lines in ``list_file``.
    """
    marks = np.full((len(listed), len(classes)), -1, dtype=np.int8)
    for row, (line, name) in enumerate(listed):
        path = folder / "Annotations" / f"{name}.xml"
        if not path.is_file():
            raise UserError(f"{list_file}:{line}: {path} is missing; {_ARCHIVES}.")
        for entry in _parsed(path).findall("object"):
            label = entry.findtext("name", "").strip()
            if label not in CLASSES:
                raise UserError(f"{path}: shows {label!r}, which is no class of VOC2007.")
            if label in classes:
                hard = entry.findtext("difficult", "0").strip() == "1"
                column = classes.index(label)
                marks[row, column] = max(marks[row, column], 0 if hard else 1)
    return marks


def _parsed(path: Path) -> ElementTree.Element:
    """The root of an XML file, in any encoding that Python knows.

    The parser itself knows UTF-8, UTF-16 and single-byte ones; Chinese and Japanese tools write
    others.
    """
    data = path.read_bytes()
    declared = re.match(rb"""\s*<\?xml[^>]*encoding=["']([\w.-]+)["'][^>]*\?>""", data[:200])
    try:
        if declared and declared[1].lower() not in (b"utf-8", b"utf-16"):
            text = data[declared.end() :].decode(declared[1].decode(), errors="replace")
            return ElementTree.fromstring(text)
        return ElementTree.fromstring(data)
    except LookupError:
        raise UserError(
            f"{path}: says that its encoding is {declared[1].decode() if declared else ''!r}, "
            "which is unknown; save it as UTF-8."
        ) from None
    except ElementTree.ParseError as error:
        raise UserError(
            f"{path}:{error.position[0]}: broken XML ({error}); unpack it again."
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as XML ({error}); unpack it again.") from None
