"""NUS-WIDE as its authors lay it out (Chua et al., CIVR 2009; lms.comp.nus.edu.sg).

    NUS-WIDE/ImageList/TestImagelist.txt                        actor\\0002_174174086.jpg, ...
    NUS-WIDE/Groundtruth/TrainTestLabels/Labels_dog_Test.txt    1 or 0, a line an image
    NUS-WIDE/Flickr/actor/0002_174174086.jpg

Published figures use different lists of test images and are not comparable between them: all
107,859 (TaI-DPT, T2I-PAL), or those with at least one label. A list of one's own, such as the
60,260 curated images of some papers, is a file with one image a line.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2ipal.datasets.labelled_images import LabelledImages, Labels
from t2ipal.datasets.official import Columns, checked, wanted_file
from t2ipal.errors import UserError
from t2ipal.files.broken import Broken
from t2ipal.files.tables import text_lines
from t2ipal.vocabulary import Vocabulary

OFFICIAL = {"test": 107_859, "train": 161_789}
_ARCHIVES = "unpack ImageList.zip and Groundtruth.zip of NUS-WIDE"


def read_nuswide(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    split: str = "test",
    images: str = "all",
    broken: Broken | None = None,
) -> LabelledImages:
    """Read a split for the classes of ``vocabulary``.

    Args:
        folder: ``NUS-WIDE``, with ImageList, Groundtruth and Flickr.
        split: test or train.
        images: ``all`` of the split, those with a label (``labelled``), or a file that lists some.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: another folder, a missing or broken file, a missing image; it is named.
    """
    list_file = wanted_file(folder / "ImageList" / f"{split.title()}Imagelist.txt", _ARCHIVES)
    lines, names = _names(list_file)
    labels_folder = folder / "Groundtruth" / "TrainTestLabels"
    ending = f"_{split.title()}.txt"
    concepts = sorted(
        path.name.removeprefix("Labels_").removesuffix(ending)
        for path in labels_folder.glob(f"Labels_*{ending}")
    )
    if not concepts:
        raise UserError(f"{labels_folder}: holds no Labels_*{ending}; {_ARCHIVES}.")
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
    return checked(source, list_file, files, kept, columns, folder, lines, broken)


def _names(path: Path) -> tuple[list[int], list[str]]:
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
    lines, wanted = _names(wanted_file(path, "name a file with one image a line"))
    for number, name in zip(lines, wanted, strict=True):
        if name not in row_of:
            raise UserError(f"{path}:{number}: {name} is not in {list_file.name}.")
    return lines, np.array([row_of[name] for name in wanted], dtype=np.int64)
