"""Tables of labels, in the folder of the images they label.

image,labels                    a.jpg,dog|person      every class not named is absent
image,dog,person,...            a.jpg,1,0             1 present, 0 absent, blank unknown;
                                                      a class without a column is unknown

The cells may be separated by commas, semicolons, tabs or bars. What ``t2ipal predict`` prints as
CSV or JSON lines is read too: its tags are the labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t2ipal.datasets.labelled_images import ClassNames, LabelledImages, Labels
from t2ipal.errors import UserError
from t2ipal.files import read_jsonl
from t2ipal.files.broken import Broken
from t2ipal.files.folders import LeftOut, find_images
from t2ipal.files.names import from_readable, name_key, portable_path
from t2ipal.files.tables import from_csv_cell, read_table
from t2ipal.vocabulary import UNKNOWN, Vocabulary

LABELS_FILE = "labels.csv"
_IMAGE_KEYS = ("image", "file", "filename", "file name", "path", "image path", "image name")
_LABEL_KEYS = ("labels", "label", "tags", "classes", "class")
# With what pandas and spreadsheets make of 1, 0 and blank; -1 is unknown, as in our own arrays.
_CELLS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "present"), 1),
    **dict.fromkeys(("0", "0.0", "false", "no", "absent"), 0),
    **dict.fromkeys(("", "-1", "-1.0", "nan", "na", "n/a", "none", "null", "unknown"), UNKNOWN),
}


def read_labels_csv(
    path: Path, vocabulary: Vocabulary, broken: Broken | None = None
) -> LabelledImages:
    """Read a table of labels of either form; image paths are relative to its folder.

    Args:
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: an unknown class, a missing image, a cell of another kind; file and line are
            named.
    """
    rows = _Rows(path, vocabulary, Broken() if broken is None else broken)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        for line, row in read_jsonl(path):
            rows.add_object(line, row)
    else:
        table = read_table(path)
        rows.read_header(tuple(map(from_csv_cell, table.columns)))
        for line, cells in table.rows:
            rows.add(line, [*map(from_csv_cell, cells)])
    if not rows.files and rows.missing:
        raise UserError(f"{path}: none of its images is there; check the folder.")
    if not rows.files:
        raise UserError(f"{path}: lists no image; add one row per image below the header.")
    beside = LeftOut()
    listed = set(rows.files)
    for file in find_images([path.parent], recursive=False):
        if file not in listed:
            beside.add(f"images that {path.name} does not list", file.name)
    notes = (str(beside),) if str(beside) else ()
    return LabelledImages(
        str(path.parent), tuple(rows.files), np.stack(rows.targets), folder=path.parent,
        notes=notes, skipped=rows.missing,
    )  # fmt: skip


class _Rows:
    """The rows of one table as they are read."""

    def __init__(self, path: Path, vocabulary: Vocabulary, broken: Broken) -> None:
        self.path, self.vocabulary, self.broken = path, vocabulary, broken
        self.known = ClassNames(vocabulary)
        self.missing = 0
        self.files: list[Path] = []
        self.targets: list[Labels] = []
        self.line_of: dict[Path, int] = {}
        self.image = 0  # its column
        self.labels: int | None = None  # the column of labels; None if each class has a column
        self.columns: dict[int, tuple[str, tuple[int, ...]]] = {}  # column -> name, its classes

    def read_header(self, header: tuple[str, ...]) -> None:
        """Learn which form this is and what the columns mean."""
        keys = [name_key(cell) for cell in header]
        images = [keys.index(key) for key in _IMAGE_KEYS if key in keys]
        if not images or len(header) < 2:
            raise UserError(
                f"{self.path}:1: expected the header 'image,labels' or 'image,<class>,...', "
                f"found {','.join(header)[:80]!r}."
            )
        self.image = images[0]
        self.labels = next((keys.index(key) for key in _LABEL_KEYS if key in keys), None)
        if self.labels is not None:
            return
        seen: dict[int, str] = {}
        for column, name in enumerate(header):
            if column == self.image:
                continue
            classes = self.find(1, name)
            if classes[0] in seen:
                raise UserError(
                    f"{self.path}:1: two columns for class "
                    f"{self.vocabulary.names[classes[0]]!r}; keep one."
                )
            seen[classes[0]] = name
            self.columns[column] = (name, classes)

    def find(self, line: int, name: str) -> tuple[int, ...]:
        """The classes called ``name``."""
        if found := self.known.find(name):
            return found
        raise self.known.complain(name, f"{self.path}:{line}")

    def add(self, line: int, cells: list[str]) -> None:
        """Read one row of a table."""
        if self.labels is not None:
            labels = self.present(line, self.split(cells[self.labels]))
        else:
            labels = self.by_column(line, cells)
        self.add_image(line, cells[self.image], labels)

    def add_object(self, line: int, row: dict[str, object]) -> None:
        """Read one line of JSON: an image and a list of labels, or one text."""
        keys = {name_key(key): value for key, value in row.items()}
        image = next((keys[key] for key in _IMAGE_KEYS if key in keys), None)
        labels = next((keys[key] for key in _LABEL_KEYS if key in keys), None)
        names = self.split(labels) if isinstance(labels, str) else labels
        if not isinstance(image, str) or not isinstance(names, list):
            raise UserError(f"{self.path}:{line}: expected 'image', and 'labels' or 'tags'.")
        self.add_image(line, image, self.present(line, [str(name) for name in names]))

    def add_image(self, line: int, name: str, labels: Labels) -> None:
        """Find the image, relative to the folder of the table or, failing that, to here."""
        relative = Path(portable_path(name))
        near = self.path.parent / relative
        file = relative if not near.is_file() and relative.is_file() else near
        if "\\x" in name and not file.is_file():  # as predict writes what is no UTF-8
            plain = Path(from_readable(name.strip()))
            file = next(filter(Path.is_file, (self.path.parent / plain, plain)), near)
        if not name.strip() or not file.is_file():
            error = UserError(
                f"{self.path}:{line}: there is no image {name.strip()!r} in {self.path.parent}; "
                "add the file or remove the row."
            )
            self.broken.add(near, error)
            self.missing += 1
            return
        real = file.resolve()
        if real in self.line_of:
            raise UserError(
                f"{self.path}:{line}: image {name.strip()!r} is already listed in line "
                f"{self.line_of[real]}; keep one of the rows."
            )
        self.line_of[real] = line
        self.files.append(file)
        self.targets.append(labels)

    def split(self, cell: str) -> list[str]:
        """``dog|person`` as names; other separators count if the whole is no class's name."""
        for mark in "|;,":
            if mark in cell and not self.known.find(cell):
                return [part.strip() for part in cell.split(mark) if part.strip()]
        return [cell.strip()] if cell.strip() and cell.strip() != "-" else []

    def present(self, line: int, names: list[str]) -> Labels:
        """Names of what is there -> int8 [C] of 1 and 0."""
        row = np.zeros(len(self.vocabulary), dtype=np.int8)
        for name in names:
            row[list(self.find(line, name))] = 1
        return row

    def by_column(self, line: int, cells: list[str]) -> Labels:
        """1, 0 and blank cells -> int8 [C]; classes without a column stay unknown."""
        row = np.full(len(self.vocabulary), UNKNOWN, dtype=np.int8)
        for column, (name, classes) in self.columns.items():
            value = _CELLS.get(cells[column].strip().casefold())
            if value is None:
                raise UserError(
                    f"{self.path}:{line}: {cells[column]!r} in column "
                    f"{self.vocabulary.names[classes[0]]!r}; "
                    "use 1 (present), 0 (absent) or blank (unknown)."
                )
            for index in classes:
                if value == 1 or (row[index] != 1 and self.known.means_whole(name, index)):
                    row[index] = value
        return row
