"""Benchmarks as their authors lay them out: PASCAL VOC2007, MS-COCO 2014 and NUS-WIDE."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2ipal.datasets.coco_json import read_coco_json
from t2ipal.datasets.labelled_images import Columns, LabelledImages, Labels
from t2ipal.errors import UserError, nearest
from t2ipal.files.broken import Broken
from t2ipal.files.tables import text_lines
from t2ipal.vocabulary import UNKNOWN, Vocabulary

OFFICIAL = {
    "voc2007": {"test": 4952, "trainval": 5011, "train": 2501, "val": 2510},
    "coco2014": {"val": 40_504, "train": 82_783},
    "nuswide": {"test": 107_859, "train": 161_789},
}
"""Benchmark -> split -> how many images it has."""

VOC_CLASSES = (
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

_DIFFICULT = {"unknown": UNKNOWN, "negative": 0}
_VOC_ARCHIVES = "unpack VOCtest_06-Nov-2007.tar and VOCtrainval_06-Nov-2007.tar"
_COCO_ARCHIVES = (
    "unpack annotations_trainval2014.zip, val2014.zip and train2014.zip of cocodataset.org"
)
_NUSWIDE_ARCHIVES = "unpack ImageList.zip and Groundtruth.zip of NUS-WIDE"


@dataclass(frozen=True)
class _Layout:
    """A benchmark in the layout of its authors.

    Attributes:
        read: folder, vocabulary and options to images.
        options: option beside ``split`` -> the values it may have; None for anything.
        official: split -> how many images it has.
        split: the split if none is named.
    """

    read: Callable[..., LabelledImages]
    options: dict[str, tuple[str, ...] | None]
    official: dict[str, int]
    split: str


def _read_voc2007(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    split: str = "test",
    difficult: str = "unknown",
    broken: Broken | None = None,
) -> LabelledImages:
    """Read a split of PASCAL VOC2007 in its devkit (host.robots.ox.ac.uk/pascal/VOC/voc2007).

        VOC2007/ImageSets/Main/test.txt        ids of a split, a line each
        VOC2007/ImageSets/Main/dog_test.txt    id and 1 (present), 0 (only difficult), -1 (absent)
        VOC2007/Annotations/000001.xml         objects with their names and difficult marks
        VOC2007/JPEGImages/000001.jpg

    The class lists are read where all are there, the annotations otherwise; both say the same.

    Args:
        folder: ``VOC2007``, ``VOCdevkit`` or what holds it.
        split: test, trainval, train or val.
        difficult: the label of a class of which an image shows difficult objects alone:
            ``unknown``, as in the challenge's own evaluation, or ``negative``, as in TaI-DPT.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: another folder, a missing or broken file, a missing image; it is named.
    """
    folder = _find_voc(folder)
    list_file = _wanted_file(folder / "ImageSets" / "Main" / f"{split}.txt", _VOC_ARCHIVES)
    lines, ids = _listed(list_file)
    if not ids:
        raise UserError(f"{list_file}: lists no image; {_VOC_ARCHIVES}.")
    columns = Columns(VOC_CLASSES, vocabulary, str(folder), COCO_NAMES)
    marks = _from_lists(list_file, ids, columns.names)
    if marks is None:
        marks = _from_annotations(folder, list_file, lines, ids, columns.names)
    labels = np.where(marks == 0, _DIFFICULT[difficult], np.maximum(marks, 0)).astype(np.int8)
    files = [folder / "JPEGImages" / f"{name}.jpg" for name in ids]
    return _checked(f"VOC2007 {split}", list_file, files, labels, columns, folder, lines, broken)


def _find_voc(folder: Path) -> Path:
    for inner in (folder, folder / "VOC2007", folder / "VOCdevkit" / "VOC2007"):
        if (inner / "ImageSets").is_dir():
            return inner
    raise UserError(
        f"{folder}: holds no VOC2007 with ImageSets; {_VOC_ARCHIVES} and name VOCdevkit."
    )


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
    folder: Path, list_file: Path, lines: list[int], ids: list[str], classes: Sequence[str]
) -> Labels:
    """The same marks from the annotations: 0 where all objects of a class are difficult."""
    marks = np.full((len(ids), len(classes)), -1, dtype=np.int8)
    for row, (line, name) in enumerate(zip(lines, ids, strict=True)):
        path = folder / "Annotations" / f"{name}.xml"
        if not path.is_file():
            raise UserError(f"{list_file}:{line}: {path} is missing; {_VOC_ARCHIVES}.")
        for entry in _parsed_xml(path).findall("object"):
            label = entry.findtext("name", "").strip()
            if label not in VOC_CLASSES:
                raise UserError(f"{path}: shows {label!r}, which is no class of VOC2007.")
            if label in classes:
                hard = entry.findtext("difficult", "0").strip() == "1"
                column = classes.index(label)
                marks[row, column] = max(marks[row, column], 0 if hard else 1)
    return marks


def _parsed_xml(path: Path) -> ElementTree.Element:
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


def _read_coco2014(
    folder: Path, vocabulary: Vocabulary, *, split: str = "val", broken: Broken | None = None
) -> LabelledImages:
    """Read a split of MS-COCO 2014 as its archives unpack (cocodataset.org).

        COCO/annotations/instances_val2014.json
        COCO/val2014/COCO_val2014_000000000042.jpg

    The usual test set is val2014 with all its 40,504 images, those without an object included.

    Args:
        folder: holds ``annotations`` and ``val2014``.
        split: val or train.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: another folder, a missing or broken file, a missing image; it is named.
    """
    path = _wanted_file(folder / "annotations" / f"instances_{split}2014.json", _COCO_ARCHIVES)
    images = folder / f"{split}2014"
    title = f"MS-COCO 2014 {split}"
    return read_coco_json(path, vocabulary, images=images, source=title, broken=broken)


def _read_nuswide(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    split: str = "test",
    images: str = "all",
    broken: Broken | None = None,
) -> LabelledImages:
    """Read a split of NUS-WIDE (Chua et al., CIVR 2009; lms.comp.nus.edu.sg).

        NUS-WIDE/ImageList/TestImagelist.txt                        actor\\0002_174174086.jpg, ...
        NUS-WIDE/Groundtruth/TrainTestLabels/Labels_dog_Test.txt    1 or 0, a line an image
        NUS-WIDE/Flickr/actor/0002_174174086.jpg

    Published figures use different lists of test images and are not comparable between them: all
    107,859 (TaI-DPT, T2I-PAL), or those with at least one label. A list of one's own, such as the
    60,260 curated images of some papers, is a file with one image a line.

    Args:
        folder: ``NUS-WIDE``, with ImageList, Groundtruth and Flickr.
        split: test or train.
        images: ``all`` of the split, those with a label (``labelled``), or a file that lists some.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: another folder, a missing or broken file, a missing image; it is named.
    """
    list_file = _wanted_file(
        folder / "ImageList" / f"{split.title()}Imagelist.txt", _NUSWIDE_ARCHIVES
    )
    lines, names = _listed(list_file)
    labels_folder = folder / "Groundtruth" / "TrainTestLabels"
    ending = f"_{split.title()}.txt"
    concepts = sorted(
        path.name.removeprefix("Labels_").removesuffix(ending)
        for path in labels_folder.glob(f"Labels_*{ending}")
    )
    if not concepts:
        raise UserError(f"{labels_folder}: holds no Labels_*{ending}; {_NUSWIDE_ARCHIVES}.")
    columns = Columns(concepts, vocabulary, str(labels_folder))
    every = np.stack(
        [_labels(labels_folder / f"Labels_{name}{ending}", len(names)) for name in concepts], axis=1
    )
    rows = np.arange(len(names))
    what = "all images"
    if images == "labelled":
        rows = rows[every.any(axis=1)]
        lines = [lines[row] for row in rows]
        what = "images with a label"
    elif images != "all":
        lines, rows = _rows_of(Path(images), list_file, names)
        list_file, what = Path(images), f"images of {Path(images).name}"
    kept = every[rows][:, [concepts.index(name) for name in columns.names]]
    photos = [Path(names[row]) for row in rows]
    if photos and not (folder / "Flickr" / photos[0].parent).is_dir():
        photos = [Path(photo.name) for photo in photos]  # all in one folder
    files = [folder / "Flickr" / photo for photo in photos]
    source = f"NUS-WIDE {split}, {what}"
    return _checked(source, list_file, files, kept, columns, folder, lines, broken)


def _listed(path: Path) -> tuple[list[int], list[str]]:
    """The lines that are not blank: their numbers, and the image each names."""
    listed = [(number, line.strip()) for number, line in text_lines(path) if line.strip()]
    return [number for number, _ in listed], [name.replace("\\", "/") for _, name in listed]


def _labels(path: Path, count: int) -> Labels:
    """Labels 1, 0 [N] of one concept."""
    found = [(number, value) for number, line in text_lines(path) for value in line.split()]
    values = [value for _, value in found]
    if odd := [place for place in found if place[1] not in ("0", "1")]:
        raise UserError(f"{path}:{odd[0][0]}: expected 1 or 0, found {odd[0][1][:20]!r}.")
    if len(values) != count:
        raise UserError(f"{path}: has {len(values)} labels for {count} images; unpack it again.")
    return np.array(values, dtype=np.int8)


def _rows_of(path: Path, list_file: Path, names: list[str]) -> tuple[list[int], NDArray[np.int64]]:
    """Of a list of one's own: the numbers of its lines, and the rows of the images they name."""
    row_of = {name: row for row, name in enumerate(names)}
    lines, wanted = _listed(_wanted_file(path, "name a file with one image a line"))
    for number, name in zip(lines, wanted, strict=True):
        if name not in row_of:
            raise UserError(f"{path}:{number}: {name} is not in {list_file.name}.")
    return lines, np.array([row_of[name] for name in wanted], dtype=np.int64)


def _checked(
    source: str,
    list_file: Path,
    files: Sequence[Path],
    labels: Labels,
    columns: Columns,
    folder: Path,
    lines: Sequence[int] | None = None,
    broken: Broken | None = None,
) -> LabelledImages:
    """The images, all of which are there, each once.

    Args:
        labels: of the classes ``columns.names`` [N, n].
        list_file, lines: where each is listed; the lines from the first if omitted.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: there is none, or one is listed twice or not on disk; list and line are named.
    """
    if not files:
        raise UserError(f"{list_file}: lists no image; write one a line.")
    seen: dict[Path, int] = {}
    missing: list[Path] = []
    for line, file in zip(lines or range(1, len(files) + 1), files, strict=True):
        if file in seen:
            raise UserError(
                f"{list_file}:{line}: {file.name} is listed already in line {seen[file]}; keep one."
            )
        seen[file] = line
        if not file.is_file():
            missing.append(file)
    found = LabelledImages(
        source, tuple(files), columns.targets(labels), columns.ignored, folder,
        tuple(columns.notes),
    )  # fmt: skip
    where = f"{list_file}:{seen[missing[0]]}" if missing else list_file
    return found.without(
        missing,
        f"{where}: {len(missing)} of {len(files)} images are not on disk, "
        f"{missing[0] if missing else ''} is the first; unpack all archives of the benchmark.",
        broken,
    )


def _wanted_file(path: Path, hint: str) -> Path:
    """The path, if there is such a file.

    Raises:
        UserError: there is none; the message ends with ``hint``.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; {hint}.")
    return path


_LAYOUTS = {
    "voc2007": _Layout(
        _read_voc2007, {"difficult": tuple(_DIFFICULT)}, OFFICIAL["voc2007"], "test"
    ),
    "coco2014": _Layout(_read_coco2014, {}, OFFICIAL["coco2014"], "val"),
    "nuswide": _Layout(_read_nuswide, {"images": None}, OFFICIAL["nuswide"], "test"),
}


def parse_layout(spec: str) -> tuple[_Layout, Path, dict[str, str]] | None:
    """The layout, folder and options of ``NAME:DIR?key=value&key=value``; None for other specs.

    Raises:
        UserError: an unknown option or value.
    """
    name, separator, rest = spec.partition(":")
    if name not in _LAYOUTS or not separator:
        return None
    layout = _LAYOUTS[name]
    known = {"split": tuple(layout.official), **layout.options}
    folder, options = split_options(spec, rest, known, name)
    for key, value in options.items():
        allowed = known[key]
        if allowed is not None and value not in allowed:
            raise UserError(f"{spec}: {key} must be {' or '.join(allowed)}, not {value!r}.")
    return layout, Path(folder), options


def split_options(
    spec: str, rest: str, known: Collection[str], owner: str
) -> tuple[str, dict[str, str]]:
    """The name and the options of ``NAME?key=value&key=value``, the part ``rest`` of ``spec``.

    Raises:
        UserError: an option that is not ``known`` to the ``owner``.
    """
    name, _, text = rest.partition("?")
    options = dict(part.partition("=")[::2] for part in filter(None, text.split("&")))
    for key in options:
        if key not in known:
            raise UserError(
                f"{spec}: unknown option {key!r}{nearest(key, known)}; {owner} has "
                f"{', '.join(known)}."
            )
    return name, options
