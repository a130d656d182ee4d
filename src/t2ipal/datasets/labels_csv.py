"""``labels.csv``, in the folder of the images it labels, with one of two headers:

image,labels                    a.jpg,dog|person      every class not named is absent
image,dog,person,...            a.jpg,1,0             1 present, 0 absent, blank unknown;
                                                      a class without a column is unknown
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from t2ipal.datasets.labelled_images import LabelledImages, Labels, class_lookup
from t2ipal.errors import UserError, nearest
from t2ipal.files import read_lines
from t2ipal.vocabulary import UNKNOWN, Vocabulary

LABELS_FILE = "labels.csv"
_CELLS = {"1": 1, "0": 0, "": UNKNOWN}


def read_labels_csv(path: Path, vocabulary: Vocabulary) -> LabelledImages:
    """Read a ``labels.csv`` of either form; image paths are relative to its folder.

    Classes go by name or readable name, letter case aside.

    Raises:
        UserError: naming file and line.
    """
    reader = csv.reader((text for _, text in read_lines(path)), strict=True)
    table = _CsvTable(path, vocabulary)
    try:
        table.read_header(next(reader, []))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                table.add(reader.line_num, cells)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: broken CSV ({error}); repair it.") from None
    if not table.files:
        raise UserError(f"{path}: lists no image; add one row per image below the header.")
    return LabelledImages(
        str(path.parent), tuple(table.files), np.stack(table.targets), folder=path.parent
    )


class _CsvTable:
    """The rows of one ``labels.csv`` as they are read."""

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        self.path, self.vocabulary = path, vocabulary
        self.lookup = class_lookup(vocabulary, synonyms=False)
        self.files: list[Path] = []
        self.targets: list[Labels] = []
        self.line_of: dict[str, int] = {}
        self.columns: list[int] | None = None  # class of each column; None in the labels form

    def read_header(self, header: list[str]) -> None:
        """Learn which form this is and what the columns mean."""
        cells = [cell.strip() for cell in header]
        if len(cells) < 2 or cells[0] != "image":
            raise UserError(
                f"{self.path}:1: expected the header 'image,labels' or 'image,<class>,...', "
                f"found {','.join(cells)!r}."
            )
        if cells == ["image", "labels"]:
            return
        self.columns = [self.find(1, cell) for cell in cells[1:]]
        for place, column in enumerate(self.columns):
            if column in self.columns[:place]:
                raise UserError(
                    f"{self.path}:1: two columns for class {self.vocabulary.names[column]!r}; "
                    "keep one."
                )

    def find(self, line: int, name: str) -> int:
        """Index of the class called ``name``."""
        found = self.lookup.get(name.casefold())
        if found is None:
            raise UserError(
                f"{self.path}:{line}: unknown class {name!r}"
                f"{nearest(name, self.vocabulary.names)}; use the names of the vocabulary "
                f"{self.vocabulary.title!r}."
            )
        return found

    def add(self, line: int, cells: list[str]) -> None:
        """Read one row."""
        expected = 2 if self.columns is None else len(self.columns) + 1
        if len(cells) != expected:
            raise UserError(
                f"{self.path}:{line}: {len(cells)} cells where the header has {expected}; "
                "quote a cell that holds a comma."
            )
        name = cells[0].strip()
        if name in self.line_of:
            raise UserError(
                f"{self.path}:{line}: image {name!r} is already listed in line "
                f"{self.line_of[name]}; keep one of the rows."
            )
        self.line_of[name] = line
        file = self.path.parent / name
        if not name or not file.is_file():
            raise UserError(
                f"{self.path}:{line}: there is no image {name!r} in {self.path.parent}; "
                "add the file or remove the row."
            )
        self.files.append(file)
        if self.columns is None:
            self.targets.append(self.labels_row(line, cells[1]))
        else:
            self.targets.append(self.column_row(line, self.columns, cells[1:]))

    def labels_row(self, line: int, cell: str) -> Labels:
        """``dog|person`` -> int8 [C] of 1 and 0."""
        row = np.zeros(len(self.vocabulary), dtype=np.int8)
        for name in filter(None, (part.strip() for part in cell.split("|"))):
            row[self.find(line, name)] = 1
        return row

    def column_row(self, line: int, columns: list[int], cells: list[str]) -> Labels:
        """1, 0 and blank cells -> int8 [C]; classes without a column stay unknown."""
        row = np.full(len(self.vocabulary), UNKNOWN, dtype=np.int8)
        for index, cell in zip(columns, cells, strict=True):
            value = _CELLS.get(cell.strip())
            if value is None:
                raise UserError(
                    f"{self.path}:{line}: {cell!r} in column {self.vocabulary.names[index]!r}; "
                    "use 1 (present), 0 (absent) or blank (unknown)."
                )
            row[index] = value
        return row
