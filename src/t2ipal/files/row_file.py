"""Long tables on disk and in few bytes of memory: rows that are parsed when they are asked for."""

from __future__ import annotations

import hashlib
import operator
import os
import threading
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from t2ipal.files import read_rows, row_parser
from t2ipal.files.tables import LONGEST

Row = TypeVar("Row")
Value = TypeVar("Value")
Positions = npt.NDArray[np.int64]

_BLOCK = 64 * 1024  # bytes that are read together for rows that are asked for one after another
_SMALL = 32 * 2**20  # bytes of a file whose rows are parsed once


class RowFile(Sequence[Row]):
    """The rows of a JSONL file, as :func:`t2ipal.files.read_rows` reads them; 8 bytes each.

    Equal to any sequence of equal rows.

    All rows are checked when the file is opened. It stays open, so a file that is replaced or
    removed meanwhile still has its rows. Rows of a file below 32 MB are held in memory; so are
    those of one that is not plain UTF-8 (another encoding, gzip), and of any file on Windows.

    Args:
        kind, ended: as of :func:`t2ipal.files.read_rows`.
        each: called with the line number and the row of each line.

    Raises:
        UserError: as :func:`t2ipal.files.read_rows`.
    """

    def __init__(
        self,
        path: str | Path,
        kind: type[Row],
        *,
        ended: bool = False,
        each: Callable[[int, Row], None] = lambda number, row: None,
    ) -> None:
        self._parse = row_parser(kind)
        self._starts = array("q")
        self._held: list[Row] | None = None
        self._lock = threading.Lock()
        self._block, self._block_start = b"", 0
        told = 0 if os.name == "nt" else self._open(Path(path), ended, each)
        if told is not None:
            self._held = []
            for number, row in read_rows(path, kind, ended=ended):
                self._held.append(row)
                if number > told:
                    each(number, row)

    def _open(self, path: Path, ended: bool, each: Callable[[int, Row], None]) -> int | None:
        """Note where rows begin; the line of the last one if the next is not a plain one."""
        told = end = 0
        try:
            if not path.is_file():  # a pipe would wait for its writer
                return told
            self._stream = path.open("rb")
            weakref.finalize(self, self._stream.close)
            held = list[Row]() if os.fstat(self._stream.fileno()).st_size < _SMALL else None
            for number, line in enumerate(iter(partial(self._stream.readline, LONGEST), b""), 1):
                if len(line) == LONGEST:  # of which the other reader tells
                    return told
                if ended and not line.endswith(b"\n"):
                    break
                if line.strip():
                    try:
                        row = self._parse(line)
                    except ValueError:
                        return told
                    self._starts.append(end)
                    if held is not None:
                        held.append(row)
                    each(number, row)
                    told = number
                end += len(line)
        except OSError:  # of which the other reader tells
            return told
        self._starts.append(end)
        self._held = held
        return None

    def __len__(self) -> int:
        return len(self._starts) - 1 if self._held is None else len(self._held)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if self._held is not None:
            return self._held[index]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return self._parse(self._bytes(self._starts[at], self._starts[at + 1]))

    def __iter__(self) -> Iterator[Row]:
        if self._held is not None:
            return iter(self._held)
        return (self._parse(self._bytes(*ends)) for ends in pairwise(self._starts))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented
        return all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _bytes(self, start: int, end: int) -> bytes:
        """A line, and blank ones behind it."""
        with self._lock:
            first = start - self._block_start
            if first < 0 or end > self._block_start + len(self._block):
                self._stream.seek(start)
                self._block = self._stream.read(max(_BLOCK, end - start))
                self._block_start, first = start, 0
            return self._block[first : first + end - start]


class Lazy(Sequence[Value], Generic[Value]):
    """A sequence whose values are made when they are asked for."""

    def __init__(self, length: int, make: Callable[[int], Value]) -> None:
        self._length = length
        self._make = make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Lazy[Value]:
        if isinstance(index, slice):
            part = range(*index.indices(self._length))
            return Lazy(len(part), lambda i: self._make(part[i]))
        return self._make(range(self._length)[index])


def at_positions(values: Sequence[Value], positions: Positions) -> Lazy[Value]:
    """The values at ``positions``, in that order, each read when it is asked for."""
    return Lazy(len(positions), lambda i: values[int(positions[i])])


class KeyIndex:
    """The positions of keys, found by digests of 160 bits: 28 bytes each, however long a key is.

    Args:
        keys: the first ones.
        first: of equal keys the first counts; if omitted, the last.
    """

    def __init__(self, keys: Iterable[str] = (), *, first: bool = False) -> None:
        self._sorted = _array(b"")
        self._positions: Positions = np.empty(0, np.int64)  # of the sorted ones
        self._added = bytearray()  # digests that are not sorted in yet
        self._first = first
        for key in keys:
            self.add(key)

    def __len__(self) -> int:
        return len(self._positions) + len(self._added) // _DIGEST

    def add(self, *keys: str) -> None:
        """Append keys; they are sorted in when one is looked for."""
        for key in keys:
            self._added += _digest(key)

    def find(self, keys: Iterable[str]) -> Positions:
        """The position of each key, -1 where it is none."""
        self._sort()
        wanted = _array(b"".join(map(_digest, keys)))
        if not len(self):
            return np.full(len(wanted), -1)
        at = np.searchsorted(self._sorted, wanted, "left" if self._first else "right")
        at = np.clip(at - (not self._first), 0, len(self) - 1)
        found: Positions = np.where(self._sorted[at] == wanted, self._positions[at], -1)
        return found

    def repeated(self) -> tuple[int, int] | None:
        """Where the first key that stood before did so, and where it is; None if all differ."""
        self._sort()
        same = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if not len(same):
            return None
        at = same[np.argmin(self._positions[same + 1])]
        return int(self._positions[at]), int(self._positions[at + 1])

    def distinct(self) -> Positions:
        """The positions that count, in order."""
        self._sort()
        differ = self._sorted[1:] != self._sorted[:-1]
        counts = np.append(True, differ) if self._first else np.append(differ, True)
        return np.sort(self._positions[counts[: len(self)]])

    def _sort(self) -> None:
        if self._added:
            known = len(self._positions)
            digests = np.concatenate([self._sorted, _array(bytes(self._added))])
            places = np.concatenate([self._positions, np.arange(known, len(self))])
            order = np.argsort(digests, kind="stable")  # equal keys stay in the order of places
            self._sorted, self._positions = digests[order], places[order]
            self._added.clear()


_DIGEST = 20


def _digest(key: str) -> bytes:
    encoded = key.encode("utf-8", "surrogatepass")
    if len(encoded) == _DIGEST:  # as the ids of images, which are digests themselves
        return encoded
    return hashlib.blake2b(encoded, digest_size=_DIGEST).digest()


def _array(digests: bytes) -> npt.NDArray[np.bytes_]:
    return np.frombuffer(digests, dtype=f"S{_DIGEST}")
