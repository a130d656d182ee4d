"""Captions from the files people have: text, tables, JSON lines, the JSON of known data sets."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from t2ipal.errors import UserError
from t2ipal.files import read_jsonl, sha256_text
from t2ipal.files.tables import (
    LARGE,
    Table,
    looks_like_table,
    read_json,
    read_table,
    text_lines,
)

log = logging.getLogger(__name__)

_TEXT_KEYS = ("caption", "text", "comment", "sentence", "description", "raw", "title")
_LIST_KEYS = ("captions", "texts", "sentences")
_ID_KEYS = ("id", "caption_id")
_HEADER = (*_TEXT_KEYS, "image_name", "file_name", "filename", "image")
_TABLE_SUFFIXES = {".csv": None, ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_LONGEST = 100_000  # characters; CLIP reads the first few hundred of them
_SNIFFED = 1000  # lines that tell whether a text is a table


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
        if len(self.text) > _LONGEST:
            raise UserError(
                f"caption {self.id!r}: has {len(self.text):,} characters, more than {_LONGEST:,}; "
                "write one caption on each line."
            )


@dataclass(frozen=True)
class _Row:
    """A caption as found.

    Attributes:
        line: where it begins; the number of the entry in JSON that is one document.
        id: what the file says of its identity; empty if it says nothing.
        own: whether the file gives the id as such, so that no other caption may have it.
    """

    line: int
    id: str
    text: str
    own: bool = False


def read_captions(path: str | Path, *, limit: int | None = None) -> list[Caption]:
    """The captions of a file, or its first ``limit``, as :func:`each_caption` reads them."""
    return list(each_caption(path, limit=limit))


def each_caption(path: str | Path, *, limit: int | None = None) -> Iterator[Caption]:
    """Read the captions of a file, or the first ``limit`` of them, one by one.

    The file is read twice: other captions' own ids are known before the first is derived. Text,
    tables and JSON lines are never held as a whole; 64 bits per caption are, of its id.

    The format follows from the content, with the suffix as a hint; ``.gz`` files are unpacked:

    * a table (CSV, TSV, columns separated by ``;`` or ``|``) with a column ``caption``, ``text``,
      ``comment`` or ``sentence``, and perhaps ``id``, whatever the suffix; a text with as many tabs
      in every line is one too (Flickr8k's ``token.txt``), its captions the wordiest column;
    * JSON lines: objects with ``caption`` or ``text``, and perhaps ``id``; OpenImages Localized
      Narratives carry ``image_id`` and ``annotator_id`` instead;
    * JSON: COCO captions (``annotations``), Karpathy's splits (``images`` with ``sentences``), a
      list of captions or of such objects, an object of lists of captions by image;
    * ``.parquet``, through Hugging Face's ``datasets``;
    * any other text: one caption per line.

    Ids are the file's own; else image and annotation (COCO, Karpathy), image and annotator
    (Localized Narratives), or a hash of the text, so that a line put in anywhere changes no other
    caption's id. They are unique: an id that the file gives twice is an error, a derived one gets a
    number at its end. White space is reduced to single spaces; empty captions are left out.

    Raises:
        UserError: the file cannot be read, breaks its format (with the line), or has no caption.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise UserError(f"the limit of captions must be at least 1, not {limit}.")
    taken = _own_ids(path, limit)
    copies: dict[str, int] = {}
    empty = True
    for row in islice(_rows(path), limit):
        empty = False
        name = row.id
        if not row.own:
            stem = name = row.id or sha256_text("caption", row.text)[:12]
            while _digest(name) in taken:
                copies[stem] = copies.get(stem, 1) + 1
                name = f"{stem}-{copies[stem]}"
            taken.add(_digest(name))
        yield Caption(name, row.text)
    if empty:
        raise UserError(f"{path}: holds no captions; write one on each line.")


def _own_ids(path: Path, limit: int | None) -> set[int]:
    """Digests of the ids that the file gives as such.

    Raises:
        UserError: one is given twice.
    """
    taken = set[int]()
    for row in islice(_rows(path, quiet=True), limit):
        if not row.own:
            continue
        if (digest := _digest(row.id)) in taken:
            lines = [one.line for one in _rows(path, quiet=True) if one.own and one.id == row.id]
            raise UserError(
                f"{path}:{row.line}: the id {row.id!r} is on line {lines[0]} already; "
                "make the ids distinct."
            )
        taken.add(digest)
    return taken


def _digest(id: str) -> int:
    """64 bits that stand for an id: of a million they take a tenth of the memory."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest())


def _rows(path: Path, *, quiet: bool = False) -> Iterator[_Row]:
    """The non-empty captions of the file, one by one."""
    empty = 0
    for row in _read(path):
        text = clean_text(row.text)
        if text:
            yield _Row(row.line, row.id, text, row.own)
        else:
            empty += 1
    if empty and not quiet:
        log.warning("%s: %d empty captions left out", path, empty)


def _read(path: Path) -> Iterator[_Row]:
    """The captions of a file of any format."""
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix == ".parquet":
        return _parquet(path)
    if suffix in _TABLE_SUFFIXES:
        return _table(path, read_table(path, _TABLE_SUFFIXES[suffix]))
    first = list(islice((line for _, line in text_lines(path) if line.strip()), _SNIFFED))
    if suffix in (".json", ".jsonl", ".ndjson") and not first:
        raise UserError(f"{path}: the file is empty; write one caption on each line.")
    kind = _json_kind(first[0].strip(), suffix) if first else None
    if kind == "lines":
        return (one for n, row in read_jsonl(path) for one in _object(row, f"{path}:{n}", n))
    if kind == "document" or suffix == ".json":
        return _json_document(path, read_json(path, LARGE))
    mark = looks_like_table(first, _TEXT_KEYS)
    if mark is not None:
        return _table(path, read_table(path, mark, header=_has_header(first[0], mark)))
    return (_Row(n, "", line) for n, line in text_lines(path) if line.strip())


def _json_kind(start: str, suffix: str) -> str | None:
    """ "lines" or "document" by the first line that is not blank; None for other text."""
    if start[:1] not in ("{", "["):
        return "lines" if suffix in (".jsonl", ".ndjson") else None
    try:
        first = json.loads(start)
    except (ValueError, RecursionError):
        # A document over several lines, or a broken first line of JSON lines, or no JSON at all.
        if suffix in (".jsonl", ".ndjson"):
            return "lines"
        return "document" if suffix == ".json" or start in ("{", "[") or start[1] == '"' else None
    if isinstance(first, dict) and not {"annotations", "images"} & set(first):
        return "lines" if _has_text(first) or suffix != ".json" else "document"
    return "document"


def _has_text(row: dict[str, Any]) -> bool:
    return any(key in row for key in (*_TEXT_KEYS, *_LIST_KEYS))


def _has_header(line: str, mark: str) -> bool:
    cells = {cell.strip().strip('"').casefold() for cell in line.split(mark)}
    return bool(cells & set(_HEADER))


def clean_text(text: str) -> str:
    """Single spaces, no control characters, no halves of surrogate pairs."""
    if not text.isprintable():
        text = text.encode("utf-8", "replace").decode("utf-8")
        text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())


def _table(path: Path, table: Table) -> Iterator[_Row]:
    names = [name.casefold() for name in table.columns]
    found = [names.index(key) for key in _TEXT_KEYS if key in names]
    if table.columns and not found:
        raise UserError(
            f"{path}:1: no column 'caption' or 'text' in the header "
            f"({', '.join(table.columns)[:60]!r}); name the column of captions."
        )
    if found and names.count(names[found[0]]) > 1:
        raise UserError(f"{path}:1: two columns are called {names[found[0]]!r}; rename one.")
    start = list(islice(table.rows, _SNIFFED))
    width = len(table.columns) or (len(start[0][1]) if start else 0)
    column = found[0] if found else _wordiest(start, width)
    own = next((names.index(key) for key in _ID_KEYS if key in names), None)
    # Without a header, what stands before a caption tells which it is: an image's name, say.
    about = [i for i in range(width) if i != column] if not table.columns else []
    for line, cells in chain(start, table.rows):
        id = (
            clean_text(cells[own])
            if own is not None
            else "-".join(clean_text(cells[i]) for i in about)
        )
        if own is not None and not id:
            raise UserError(f"{path}:{line}: the id is empty; fill it in or drop the column.")
        yield _Row(line, id, cells[column], own is not None)


def _wordiest(rows: Sequence[tuple[int, Sequence[str]]], width: int) -> int:
    """The column with most words, of rows of ``width`` cells without a header."""
    words = [0] * width
    for _, cells in rows:
        for i, cell in enumerate(cells):
            words[i] += len(cell.split())
    return words.index(max(words))


def _object(row: dict[str, Any], place: str, number: int) -> Iterator[_Row]:
    """The caption, or captions, of a JSON object."""
    texts = _texts(row, place)
    key = next((key for key in _ID_KEYS if key in row), None)
    id, own = "", False
    if key is not None:
        id, own = _id(row[key], place), len(texts) == 1
    elif "image_id" in row:
        parts = [row["image_id"], *([row["annotator_id"]] if "annotator_id" in row else [])]
        id = "-".join(_id(part, place) for part in parts)
    for text in texts:
        yield _Row(number, id, text, own)


def _json_document(path: Path, document: Any) -> Iterator[_Row]:
    """JSON that is one document: COCO, Karpathy, or lists of captions."""
    if isinstance(document, dict) and isinstance(document.get("annotations"), list):
        return _coco(path, document["annotations"])
    if isinstance(document, dict) and isinstance(document.get("images"), list):
        return _karpathy(path, document["images"])
    if isinstance(document, dict) and _has_text(document):
        return _object(document, str(path), 1)
    if isinstance(document, dict) and document:
        return _by_image(path, document)
    if isinstance(document, list) and all(isinstance(one, str | dict) for one in document):
        return _list(path, document)
    raise UserError(
        f"{path}: JSON without a list 'annotations' or captions in another form that is known; "
        "give COCO captions, a list of captions, JSON lines (.jsonl), CSV or plain text."
    )


def _list(path: Path, entries: Sequence[str | dict[str, Any]]) -> Iterator[_Row]:
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, str):
            yield _Row(number, "", entry)
        else:
            yield from _object(entry, f"{path}: entry {number}", number)


def _by_image(path: Path, document: dict[str, Any]) -> Iterator[_Row]:
    for number, (image, found) in enumerate(document.items(), start=1):
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(
                f"{path}: JSON without a list 'annotations', and {image!r} holds no captions; give "
                "COCO captions, a list of captions, JSON lines (.jsonl), CSV or plain text."
            )
        for text in texts:
            yield _Row(number, clean_text(image), text)


def _karpathy(path: Path, images: Sequence[Any]) -> Iterator[_Row]:
    """The splits of Karpathy and Li (CVPR 2015) of Flickr8k, Flickr30k and COCO."""
    for number, image in enumerate(images, start=1):
        place = f"{path}: image {number}"
        if not isinstance(image, dict):
            raise UserError(f"{place}: expected a JSON object, found {type(image).__name__}.")
        if not _has_text(image):
            raise UserError(
                f"{place}: has no captions; give the captions file, not the instances file."
            )
        name = next((image[key] for key in ("cocoid", "imgid", "filename") if key in image), number)
        for text in _texts(image, place):
            yield _Row(number, _id(name, place), text)


def _coco(path: Path, annotations: Sequence[Any]) -> Iterator[_Row]:
    for number, row in enumerate(annotations, start=1):
        place = f"{path}: annotation {number}"
        if not isinstance(row, dict):
            raise UserError(f"{place}: expected a JSON object, found {type(row).__name__}.")
        if "caption" not in row and ("bbox" in row or "category_id" in row):
            raise UserError(
                f"{place}: has a class instead of a caption; give COCO's captions file, "
                "not its instances file."
            )
        parts = [row[key] for key in ("image_id", "id") if key in row]
        id = "-".join(_id(part, place) for part in parts)
        for text in _texts(row, place):
            yield _Row(number, id, text)


def _parquet(path: Path) -> Iterator[_Row]:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{path}: parquet files need Hugging Face's datasets; run: pip install datasets"
        ) from None
    try:
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        for number, row in enumerate(rows, start=1):
            yield from _object(row, f"{path}: row {number}", number)
    except UserError:
        raise
    except Exception as error:  # the library passes on what its readers raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read as parquet ({reason}).") from None


def _texts(row: dict[str, Any], place: str) -> list[str]:
    """The captions that an object holds: one text, or a list of texts or of such objects."""
    for key in (*_TEXT_KEYS, *_LIST_KEYS):
        if key in row:
            value = row[key]
            entries = value if isinstance(value, list) else [value]
            texts = [
                text
                for one in entries
                for text in (_texts(one, place) if isinstance(one, dict) else [one])
            ]
            if all(isinstance(text, str) for text in texts):
                return texts
            raise UserError(f"{place}: {key!r} must be text, found {json.dumps(value)[:60]}.")
    keys = ", ".join(list(row)[:6]) or "none"
    raise UserError(f"{place}: no 'caption' or 'text' (keys: {keys}); add one.")


def _id(value: object, place: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes whole numbers so if one is missing
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise UserError(f"{place}: the id {json.dumps(value)} must be text or a whole number.")
    return clean_text(str(value))
