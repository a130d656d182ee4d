"""Captions from the files people have: plain text, JSONL, CSV, COCO JSON, Localized Narratives."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from t2ipal.errors import UserError
from t2ipal.files import read_jsonl, read_lines

log = logging.getLogger(__name__)

_TEXT_KEYS = ("caption", "text")
_DELIMITERS = {".csv": (",", ";", "\t"), ".tsv": ("\t",)}


@dataclass(frozen=True)
class Caption:
    """A caption and its identity, which seeds the images generated from it."""

    id: str
    text: str

    def __post_init__(self) -> None:
        if not self.id or not isinstance(self.id, str):
            raise UserError(f"a caption needs a non-empty text as id, found {self.id!r}.")
        if not isinstance(self.text, str):
            raise UserError(f"caption {self.id!r}: expected text, found {self.text!r}.")


@dataclass(frozen=True)
class _Row:
    """A caption as found: ``given`` tells that the file itself gives the id."""

    line: int
    id: str
    text: str
    given: bool


def read_captions(path: str | Path, *, limit: int | None = None) -> list[Caption]:
    """Read the captions of a file; the first ``limit`` of them where a limit is given.

    The format follows from the suffix and the content:

    * ``.csv``, ``.tsv``: a header with a column ``caption`` or ``text``, and perhaps ``id``;
    * ``.txt``: one caption a line;
    * JSON lines: objects with ``caption`` or ``text``, and perhaps ``id``; OpenImages Localized
      Narratives carry ``image_id`` and ``annotator_id`` instead;
    * JSON with ``annotations``: COCO captions;
    * any other text: one caption a line.

    Ids are the file's own; else image and annotation (COCO), image and annotator (Localized
    Narratives), or the line number. They are unique: an id the file gives twice is an error,
    a derived one gets a number at its end. White space is reduced to single spaces; rows with
    an empty caption are left out.

    Raises:
        UserError: the file cannot be read, breaks its format (with the line), or has no caption.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise UserError(f"the limit of captions must be at least 1, not {limit}.")
    rows = _rows(path)
    captions = _unique(path, islice(rows, limit))
    if not captions:
        raise UserError(f"{path}: holds no captions; write one on each line.")
    return captions


def _rows(path: Path) -> Iterator[_Row]:
    """The non-empty captions of the file, one by one."""
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        found = _read_table(path, _DELIMITERS[suffix])
    else:
        found = _READERS["text" if suffix == ".txt" else _sniff(path)](path)
    empty = 0
    for row in found:
        text = _clean(row.text)
        if text:
            yield _Row(row.line, row.id, text, row.given)
        else:
            empty += 1
    if empty:
        log.warning("%s: %d empty captions left out", path, empty)


def _clean(text: str) -> str:
    """Single spaces, no control characters, no halves of surrogate pairs."""
    if not text.isprintable():
        text = text.encode("utf-8", "replace").decode("utf-8")
        text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())


def _sniff(path: Path) -> str:
    """ "lines" (JSON lines), "json" or "text", from the first line that is not blank."""
    for _, line in read_lines(path):
        start = line.strip()
        if not start:
            continue
        if start[0] not in "{[":
            return "json" if path.suffix.lower() == ".json" else "text"
        try:
            first = json.loads(start)
        except (json.JSONDecodeError, RecursionError):
            # A JSON document over several lines, or a broken first line of JSON lines.
            return "lines" if path.suffix.lower() == ".jsonl" else "json"
        return "lines" if isinstance(first, dict) and "annotations" not in first else "json"
    raise UserError(f"{path}: the file is empty; write one caption on each line.")


def _read_text(path: Path) -> Iterator[_Row]:
    for number, line in read_lines(path):
        if line.strip():
            yield _Row(number, str(number), line, False)


def _read_json_lines(path: Path) -> Iterator[_Row]:
    for number, row in read_jsonl(path):
        place = f"{path}:{number}"
        text = _text(row, place)
        if "id" in row:
            yield _Row(number, _id(row["id"], place), text, True)
        elif "image_id" in row:
            parts = [row["image_id"], row.get("annotator_id", number)]
            yield _Row(number, "-".join(_id(part, place) for part in parts), text, False)
        else:
            yield _Row(number, str(number), text, False)


def _read_json(path: Path) -> Iterator[_Row]:
    """COCO's captions JSON: the whole file is one object."""
    text = "\n".join(line for _, line in read_lines(path))
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: broken JSON ({error.msg}, column {error.colno}); the file may "
            "be cut short, fetch or write it again."
        ) from None
    except RecursionError:
        raise UserError(f"{path}: JSON nested too deeply to be captions.") from None
    annotations = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(annotations, list):
        raise UserError(
            f"{path}: JSON without a list 'annotations'; give COCO captions, JSON lines "
            "(.jsonl), CSV or plain text."
        )
    for number, row in enumerate(annotations, start=1):
        place = f"{path}: annotation {number}"
        if not isinstance(row, dict):
            raise UserError(f"{place}: expected a JSON object, found {type(row).__name__}.")
        if "caption" not in row and ("bbox" in row or "category_id" in row):
            raise UserError(
                f"{place}: has a class instead of a caption; give COCO's captions file, "
                "not its instances file."
            )
        text_of = _text(row, place)
        parts = [row.get("image_id", number), row.get("id", number)]
        yield _Row(number, "-".join(_id(part, place) for part in parts), text_of, False)


def _read_table(path: Path, delimiters: tuple[str, ...]) -> Iterator[_Row]:
    lines = (line + "\n" for _, line in read_lines(path))
    header = next(lines, "").rstrip("\n")
    if not header.strip():
        raise UserError(f"{path}:1: the header is missing; name a column 'caption' or 'text'.")
    for delimiter in delimiters:
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter))]
        columns = [names.index(key) for key in _TEXT_KEYS if key in names]
        if columns:
            break
    else:
        raise UserError(
            f"{path}:1: no column 'caption' or 'text' in the header ({header.strip()[:60]!r}); "
            "name the column of captions."
        )
    id_column = names.index("id") if "id" in names else None
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 2
    while True:
        line = reader.line_num + 2
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{path}:{line}: broken row ({error}); check its quotation marks."
            ) from None
        if fields is None:
            return
        if not fields:
            continue
        if len(fields) != len(names):
            raise UserError(
                f"{path}:{line}: {len(fields)} columns where the header has {len(names)}; put "
                "captions that hold the separator in quotation marks."
            )
        own = fields[id_column].strip() if id_column is not None else ""
        if id_column is not None and not own:
            raise UserError(f"{path}:{line}: the id is empty; fill it in or drop the column.")
        yield _Row(line, own or str(line), fields[columns[0]], bool(own))


_READERS = {"text": _read_text, "lines": _read_json_lines, "json": _read_json}


def _text(row: dict[str, Any], place: str) -> str:
    for key in _TEXT_KEYS:
        if key in row:
            text = row[key]
            if not isinstance(text, str):
                raise UserError(f"{place}: {key!r} must be text, found {json.dumps(text)}.")
            return text
    keys = ", ".join(list(row)[:6]) or "none"
    raise UserError(f"{place}: no 'caption' or 'text' (keys: {keys}); add one.")


def _id(value: object, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise UserError(f"{place}: the id {json.dumps(value)} must be text or a whole number.")
    return _clean(str(value))


def _unique(path: Path, rows: Iterable[_Row]) -> list[Caption]:
    """Captions with distinct ids, in order."""
    rows = list(rows)
    lines: dict[str, int] = {}
    for row in rows:
        if row.given:
            if row.id in lines:
                raise UserError(
                    f"{path}:{row.line}: the id {row.id!r} stands on line {lines[row.id]} already; "
                    "make the ids distinct."
                )
            lines[row.id] = row.line
    captions = []
    for row in rows:
        name, copy = row.id, 1
        if not row.given:
            while name in lines:
                copy += 1
                name = f"{row.id}-{copy}"
            lines[name] = row.line
        captions.append(Caption(name, row.text))
    return captions
