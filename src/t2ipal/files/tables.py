"""One reader of text and of tables, in the encodings and layouts that people's files have."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from t2ipal.errors import UserError

log = logging.getLogger(__name__)

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK = 2**20
DELIMITERS = (",", ";", "\t", "|")


def text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its line break) of a text file.

    UTF-8 with or without byte order mark, UTF-16 and UTF-32; what is none of them is read as
    Windows-1252, with a warning. Lines end with LF, CRLF or CR. A ``.gz`` file is unpacked.

    Raises:
        UserError: the file cannot be read, or holds no text.
    """
    path = Path(path)
    encoding = _encoding(path)
    with _opened(path) as binary, io.TextIOWrapper(binary, encoding, newline=None) as stream:
        number = 0
        try:
            for number, line in enumerate(stream, start=1):
                yield number, line.rstrip("\n")
        except (UnicodeDecodeError, EOFError, OSError) as error:
            raise UserError(f"{path}:{number + 1}: cannot be read ({error}).") from None


def _read_text(path: str | Path) -> str:
    """The whole of a text file, as :func:`text_lines` reads it, its lines ended by LF.

    Raises:
        UserError: as :func:`text_lines`.
    """
    return "\n".join(line for _, line in text_lines(path))


def _opened(path: Path) -> IO[bytes]:
    try:
        return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path.") from None


def _encoding(path: Path) -> str:
    """The encoding of the whole file, read once through."""
    with _opened(path) as stream:
        try:
            start = stream.read(_CHUNK)
            for mark, name in _BOMS:
                if start.startswith(mark):
                    return name
            if (guess := _wide(start)) is not None:
                return guess
            decoder = codecs.getincrementaldecoder("utf-8")()
            while start:
                if b"\0" in start:
                    raise UserError(f"{path}: is no text (it holds zero bytes); check the path.")
                decoder.decode(start)
                start = stream.read(_CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            log.warning("%s: not UTF-8 text; read as Windows-1252. Save it as UTF-8.", path)
            return "cp1252" if _all_defined(path) else "latin-1"
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{path}: cannot be read ({reason}); check the path.") from None
    return "utf-8"


def _all_defined(path: Path) -> bool:
    with _opened(path) as stream:
        return not set(b"\x81\x8d\x8f\x90\x9d") & set(stream.read())


def _wide(start: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of its ASCII letters is zero."""
    pairs = start[: 2 * (min(len(start), 4096) // 2)]
    if len(pairs) < 4 or b"\0" not in pairs:
        return None
    even, odd = pairs[::2].count(0), pairs[1::2].count(0)
    half = len(pairs) // 2
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.05 * half:
        return "utf-16-be"
    return None


# --- tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table with named columns.

    Attributes:
        path: where it was read.
        columns: the header, white space at the ends removed; empty if there is none.
        rows: (line number, cells), ``width`` cells each.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    @property
    def width(self) -> int:
        """Cells in a row."""
        return len(self.columns) or (len(self.rows[0][1]) if self.rows else 0)


def read_table(path: str | Path, delimiter: str | None = None, *, header: bool = True) -> Table:
    """Read a table: comma, semicolon, tab or bar between the cells.

    The separator is the one that splits the header into most columns. Cells may be quoted as in
    CSV. In tab-separated tables quotation marks are plain characters, as those who write them
    mean it, unless some cell is plainly quoted as a whole because it holds a tab or a line break.
    Blank lines are left out.

    Args:
        delimiter: the separator, if it is known.
        header: whether the first row names the columns.

    Raises:
        UserError: no header, or a row with another number of cells; the line is named.
    """
    path = Path(path)
    lines = [line for _, line in text_lines(path)]
    first = next((n for n, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise UserError(f"{path}: the file is empty; write a header and rows.")
    if lines[first].lower().startswith("sep=") and len(lines[first].strip()) == 5:
        delimiter, first = lines[first].strip()[4], first + 1  # what Excel writes
    mark = delimiter or _header_delimiter(lines[first])
    quoted = mark != "\t" or _plainly_quoted(lines[first:])
    rows = _split(path, lines[first:], mark, quoted, first + 1)
    columns: tuple[str, ...] = ()
    if header:
        columns = tuple(cell.strip() for cell in next(rows, (first + 1, []))[1])
    width = len(columns)
    found = []
    for number, cells in rows:
        width = width or len(cells)
        if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            cells = cells[:width]
        if len(cells) != width:
            hint = f"quote a cell that holds {mark!r}" if quoted else "check its tabs"
            what = "the header" if header else "the first row"
            raise UserError(
                f"{path}:{number}: {len(cells)} cells where {what} has {width}; {hint}."
            )
        found.append((number, cells))
    return Table(path, columns, found)


def _header_delimiter(header: str) -> str:
    """The separator that splits a header into most columns; the comma if none does."""
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark))))


def looks_like_table(lines: Sequence[str], header: Sequence[str] = ()) -> str | None:
    """The separator, if the lines of a text file are plainly a table; else None.

    They are if the first line is a header (one of its cells is a word of ``header``), or if a tab
    or bar stands equally often, and at least once, in every line. Commas and semicolons prove
    nothing without a header, because sentences hold them.
    """
    lines = [line for line in lines if line.strip()]
    if not lines:
        return None
    known = set(header)
    for mark in DELIMITERS:
        cells = [cell.strip().casefold() for cell in next(csv.reader([lines[0]], delimiter=mark))]
        if len(cells) > 1 and known & set(cells) and all(len(cell) < 40 for cell in cells):
            return mark
    for mark in ("\t", "|"):
        counts = {line.count(mark) for line in lines}
        if len(lines) > 1 and len(counts) == 1 and counts != {0}:
            return mark
    return None


def _plainly_quoted(lines: Sequence[str]) -> bool:
    """Whether cells of a tab-separated table are quoted as a whole, tabs and line breaks inside."""
    text = "\n".join(lines)
    strict = csv.reader(io.StringIO(text), delimiter="\t", strict=True)
    try:
        rows = [row for row in strict if row]
    except csv.Error:
        return False
    plain = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    even = {len(row) for row in rows}
    uneven = {len(row) for row in plain if row}
    if len(even) == 1 and len(uneven) > 1:
        return True
    cells = [cell for line in lines for cell in line.split("\t") if '"' in cell]
    whole = [c for c in cells if len(c) > 1 and c[0] == c[-1] == '"' and _doubled(c[1:-1])]
    return bool(cells) and len(whole) == len(cells) and len(even) == 1


def _doubled(inner: str) -> bool:
    return '"' not in inner.replace('""', "")


def _split(
    path: Path, lines: Sequence[str], mark: str, quoted: bool, first: int
) -> Iterator[tuple[int, list[str]]]:
    """(line of its start, cells) of each row that is not blank."""
    reader = csv.reader(
        (line + "\n" for line in lines),
        delimiter=mark,
        strict=quoted,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    while True:
        line = first + reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{path}:{line}: broken row ({error}); check its quotation marks."
            ) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def read_json(path: str | Path) -> Any:
    """A JSON document.

    Raises:
        UserError: broken JSON, or nested too deeply; the line is named.
    """
    text = _read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: broken JSON ({error.msg}, column {error.colno}); the file may "
            "be cut short, fetch or write it again."
        ) from None
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}: cannot be read as JSON ({reason}).") from None
