"""One reader of text and of tables, in the encodings and layouts that people's files have."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import logging
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from t2ipal.errors import UserError

log = logging.getLogger(__name__)

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of such bytes
_DELIMITERS = (",", ";", "\t", "|")

SMALL = 2**24
"""Bytes of a document that people or models write: settings, class names."""
LARGE = 2**31
"""Bytes of a document of captions; more of them are written as JSON lines."""
LONGEST = 2**26
"""Characters of a line: rows are held one at a time, and none is as long."""

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")


def text_lines(
    path: str | Path, *, ended: bool = False, data: bytes | None = None, most: int | None = None
) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its line break) of a text file.

    UTF-8 with or without byte order mark, UTF-16 and UTF-32; what is none of them is read as
    Windows-1252, with one warning. Lines end with LF, CRLF or CR. A ``.gz`` file is unpacked.

    Args:
        ended: leave out a last line without a line break: of a file that is being written, say.
        data: what the file holds, if it is part of another; ``path`` is then its name in messages.
        most: bytes of a file that is held as a whole (:func:`refuse_large`), whose lines may be as
            long; of others no line may be longer than any row is.

    Raises:
        UserError: the file cannot be read, is too large, holds no text, or holds both UTF-8 and
            other text; the line is named.
    """
    path, number = Path(path), 0
    longest = most or LONGEST
    try:
        if most is not None:
            refuse_large(path, most)
        with _opened(path) if data is None else io.BufferedReader(io.BytesIO(data)) as binary:
            start = binary.peek(4096)[:4096]
            encoding = _encoding(start)
            if encoding == "utf-8" and b"\0" in start:  # before a line without end is read
                raise _no_text(path, start[: start.index(b"\0")].count(b"\n") + 1)
            errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
            with io.TextIOWrapper(binary, encoding, errors) as stream:
                decoded = _Decoder(path)
                for number, line in enumerate(iter(partial(stream.readline, longest), ""), 1):
                    if len(line) >= longest and line[-1] != "\n":
                        raise UserError(
                            f"{path}:{number}: the line is longer than {longest:,} characters; "
                            "check the path, or break the line."
                        )
                    if ended and not line.endswith("\n"):
                        return
                    if not line.isascii() or "\0" in line:
                        line = decoded(number, line)
                    yield number, line.removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: broken {error.encoding.upper()} text after line {number}; save it as UTF-8."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{path}:{number + 1}" if number else path
        raise UserError(f"{where}: cannot be read ({reason}); check the path.") from None


class _Decoder:
    """Lines that are not plain ASCII, as UTF-8 if they are that and else as Windows-1252."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.utf_8 = self.other = 0  # the first line of each

    def __call__(self, number: int, line: str) -> str:
        if "\0" in line:
            raise _no_text(self.path, number)
        if not _NOT_UTF_8.search(line):
            self.utf_8 = self.utf_8 or number
        else:
            _warn(self.path)
            self.other = self.other or number
            line = _windows_1252(line.encode("utf-8", "surrogateescape"))
        if self.utf_8 and self.other:
            raise UserError(
                f"{self.path}:{self.other}: not UTF-8 text, though line {self.utf_8} is; save the "
                "whole file as UTF-8."
            )
        return line


def _no_text(path: Path, number: int) -> UserError:
    return UserError(f"{path}:{number}: is no text (it holds zero bytes); check the path.")


@lru_cache(maxsize=1024)  # a file that is read twice warns once
def _warn(path: Path) -> None:
    log.warning("%s: not UTF-8 text; read as Windows-1252. Save it as UTF-8.", path)


def _windows_1252(line: bytes) -> str:
    try:
        return line.decode("cp1252")
    except UnicodeDecodeError:  # five bytes are undefined
        return line.decode("latin-1")


def read_text(path: str | Path, most: int = SMALL) -> str:
    """The whole of a text file of ``most`` bytes, as :func:`text_lines` reads it, with LF.

    Raises:
        UserError: as :func:`text_lines`.
    """
    return "\n".join(line for _, line in text_lines(path, most=most))


def refuse_large(path: str | Path, most: int) -> None:
    """Refuse a file of more than ``most`` bytes, of which a packed one may have a twentieth.

    Raises:
        UserError: it is larger.
        OSError: the system does not say how large it is.
    """
    size = os.stat(path).st_size
    if size > (most // _PACKED if Path(path).suffix.lower() == ".gz" else most):
        raise UserError(
            f"{path}: has {size >> 20:,} MB, more than files of its kind have; check the path."
        )


def refuse_special(path: str | Path) -> None:
    """Refuse what would never end: pipes, sockets and devices.

    Raises:
        UserError: it is one.
        OSError: the system does not say what it is.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a pipe, socket or device, not a file; name a file.")


def _opened(path: Path) -> io.BufferedReader:
    refuse_special(path)
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    return io.BufferedReader(_Unpacked(path))


class _Unpacked(io.RawIOBase):
    """A gzip file, unless its content is out of all proportion to it, as of no text."""

    def __init__(self, path: Path) -> None:
        self._stream = gzip.GzipFile(path)
        self._count = 0
        self._most = max(_ANY_SIZE, _MOST_PACKED * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._count += count
        if self._count > self._most:
            raise OSError(f"more than {self._count >> 20} MB are packed in it, which no text is")
        return int(count)

    def close(self) -> None:
        self._stream.close()
        super().close()


_ANY_SIZE, _MOST_PACKED = 2**26, 100  # bytes, and times the size of the file
_PACKED = 20  # times the size that JSON packs to


def _encoding(start: bytes) -> str:
    """The encoding that a file's first bytes tell: Unicode with its mark, wide, or UTF-8."""
    marked = (name for mark, name in _BOMS if start.startswith(mark))
    return next(marked, None) or _wide(start) or "utf-8"


def _wide(start: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of its ASCII letters is zero."""
    pairs = start[: 2 * (len(start) // 2)]
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
    """A table with named columns, its rows read one by one.

    Attributes:
        columns: the header, white space at the ends removed; empty if there is none.
        rows: (line number, cells), as many cells each as there are columns, or as in the first row;
            to be iterated once, which raises a UserError at a row that is broken or of another
            number of cells.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]


def read_table(path: str | Path, delimiter: str | None = None, *, header: bool = True) -> Table:
    """Begin to read a table: comma, semicolon, tab or bar between the cells.

    The separator is the one that splits the header into most columns. Cells may be quoted as in
    CSV. In tab-separated tables quotation marks are plain characters, as those who write them
    mean it, unless some cell is plainly quoted as a whole because it holds a tab or a line break.
    Blank lines are left out.

    Args:
        delimiter: the separator, if it is known.
        header: whether the first row names the columns.

    Raises:
        UserError: the file is empty, or its first row is broken; the line is named.
    """
    path = Path(path)
    start = islice(((n, line) for n, line in text_lines(path) if line.strip()), 2)
    first, line = next(start, (0, ""))
    if not first:
        raise UserError(f"{path}: the file is empty; write a header and rows.")
    if line.lower().startswith("sep=") and len(line.strip()) == 5:
        delimiter = line.strip()[4]  # what Excel writes
        first, line = first + 1, next(start, (0, ""))[1]

    def lines() -> Iterator[str]:
        return (line + "\n" for number, line in text_lines(path) if number >= first)

    mark = delimiter or max(_DELIMITERS, key=lambda mark: len(_cells(line, mark)))
    quoted = mark != "\t" or _plainly_quoted(lines)
    rows = _split(path, lines(), mark, quoted, first)
    columns: tuple[str, ...] = ()
    if header:
        columns = tuple(cell.strip() for cell in next(rows, (first, []))[1])
    return Table(columns, _of_one_width(path, rows, len(columns), mark, quoted))


def _of_one_width(
    path: Path, rows: Iterator[tuple[int, list[str]]], width: int, mark: str, quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    """The rows, once they have ``width`` cells; as many as the first if there is no header."""
    what = "the header" if width else "the first row"
    for number, cells in rows:
        width = width or len(cells)
        if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            cells = cells[:width]
        if len(cells) != width:
            hint = f"quote a cell that holds {mark!r}" if quoted else "check its tabs"
            raise UserError(
                f"{path}:{number}: {len(cells)} cells where {what} has {width}; {hint}."
            )
        yield number, cells


def _cells(line: str, mark: str) -> list[str]:
    """The cells of one line; the whole of it if it cannot be split (a cell of 100,000 signs)."""
    try:
        return next(csv.reader([line], delimiter=mark), [line])
    except csv.Error:
        return [line]


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
    for mark in _DELIMITERS:
        cells = [cell.strip().casefold() for cell in _cells(lines[0], mark)]
        if len(cells) > 1 and known & set(cells) and all(len(cell) < 40 for cell in cells):
            return mark
    for mark in ("\t", "|"):
        counts = {line.count(mark) for line in lines}
        if len(lines) > 1 and len(counts) == 1 and counts != {0}:
            return mark
    return None


def _plainly_quoted(lines: Callable[[], Iterator[str]]) -> bool:
    """Whether cells of a tab-separated table are quoted as a whole, tabs and line breaks inside."""
    try:
        even = {len(row) for row in csv.reader(lines(), delimiter="\t", strict=True) if row}
    except csv.Error:
        return False
    plain = csv.reader(lines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    if len(even) == 1 and len({len(row) for row in plain if row}) > 1:
        return True
    whole = {
        _whole(cell)
        for line in lines()
        for cell in line.removesuffix("\n").split("\t")
        if '"' in cell
    }
    return whole == {True} and len(even) == 1


def _whole(cell: str) -> bool:
    """Whether a cell stands in quotation marks, with none inside that is not doubled."""
    ends = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return ends and '"' not in cell[1:-1].replace('""', "")


def _split(
    path: Path, lines: Iterator[str], mark: str, quoted: bool, first: int
) -> Iterator[tuple[int, list[str]]]:
    """(line of its start, cells) of each row that is not blank."""
    reader = csv.reader(
        lines,
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


def read_json(path: str | Path, most: int = SMALL) -> Any:
    """A JSON document of ``most`` bytes.

    Raises:
        UserError: as :func:`read_text` and :func:`parse_json`.
    """
    return parse_json(read_text(path, most), path)


def parse_json(text: str, path: str | Path, line: int | None = None) -> Any:
    """The value of JSON text: the whole of a file, or one line of it.

    Raises:
        UserError: broken JSON, nested too deeply, or a number of thousands of digits; the line is
            named.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        remedy = "the file may be cut short, fetch or write it again"
        raise UserError(
            f"{path}:{line or error.lineno}: broken JSON ({error.msg}, column {error.colno}); "
            f"{remedy if line is None else 'repair or remove the line'}."
        ) from None
    except (RecursionError, ValueError) as error:
        where = f"{path}:{line}" if line else path
        deep = isinstance(error, RecursionError)
        reason = "it is nested too deeply" if deep else "a number has thousands of digits"
        raise UserError(f"{where}: cannot be read as JSON ({reason}); repair it.") from None


def csv_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: ``'`` before ``=``, ``+``, ``-`` and ``@``.

    As OWASP's page on CSV injection has it; :func:`from_csv_cell` is its inverse.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def from_csv_cell(cell: str) -> str:
    """The text of a cell, without the apostrophe that :func:`csv_cell` puts before a formula."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
