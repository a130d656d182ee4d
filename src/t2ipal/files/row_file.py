"""Long tables on disk and in few bytes of memory: rows that are parsed when they are asked for."""

from __future__ import annotations

import hashlib
import threading
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Generic, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from t2ipal.files import read_rows, row_parser

Row = TypeVar("Row")
Value = TypeVar("Value")
Positions = npt.NDArray[np.int64]

_BLOCK = 64 * 1024  # bytes that are read together for rows that are asked for one after another


class RowFile(Sequence[Row]):
    """The rows of a JSONL file, as :func:`t2ipal.files.read_rows` reads them, 8 bytes each.

    All rows are checked when the file is opened. It stays open, so a file that is replaced or
    removed meanwhile still has its rows. What is not plain UTF-8 (another encoding, gzip) is held
    in memory as a whole.

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
        told = 0
        try:
            self._stream = Path(path).open("rb")
            weakref.finalize(self, self._stream.close)
            end = 0
            for number, line in enumerate(self._stream, start=1):
                if ended and not line.endswith(b"\n"):
                    break
                if line.strip():
                    row = self._parse(line)
                    self._starts.append(end)
                    told = number
                    each(number, row)
                end += len(line)
            self._starts.append(end)
        except (OSError, ValueError):  # of a parser: the slower reader knows what is wrong
            self._held = []
            for number, row in read_rows(path, kind, ended=ended):
                self._held.append(row)
                if number > told:
                    each(number, row)

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
        return (self[i] for i in range(len(self)))

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
    """The positions of keys, found by digests of 128 bits: 24 bytes each, however long a key is.

    Args:
        keys: in order; of equal ones the last counts, or the first with ``first``.
    """

    def __init__(self, keys: Iterable[str] = (), *, first: bool = False) -> None:
        self._sorted = np.empty(0, "S16")
        self._order = np.empty(0, np.int64)
        self._side: Literal["left", "right"] = "left" if first else "right"
        self._added = list[npt.NDArray[np.bytes_]]()  # not sorted yet
        self.add(keys)

    def __len__(self) -> int:
        return len(self._order) + sum(map(len, self._added))

    def add(self, keys: Iterable[str]) -> None:
        """Append keys; they are sorted in when one is looked for."""
        self._added += _digests(keys)

    def find(self, keys: Iterable[str]) -> Positions:
        """The position of each key, -1 where it is none."""
        self._sort()
        found = [self._find(digests) for digests in _digests(keys)]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _find(self, digests: npt.NDArray[np.bytes_]) -> Positions:
        if not len(self):
            return np.full(len(digests), -1)
        at = np.searchsorted(self._sorted, digests, self._side) - (self._side == "right")
        at = np.clip(at, 0, len(self) - 1)
        found: Positions = np.where(self._sorted[at] == digests, self._order[at], -1)
        return found

    def repeated(self) -> tuple[int, int] | None:
        """The earliest position whose key stood before, and where it did; None if all differ."""
        self._sort()
        same = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if not len(same):
            return None
        at = same[np.argmin(self._order[same + 1])]
        return int(self._order[at]), int(self._order[at + 1])

    def distinct(self) -> Positions:
        """Of each key the first position, in order."""
        self._sort()
        starts = np.append(True, self._sorted[1:] != self._sorted[:-1])[: len(self)]
        return np.sort(self._order[starts])

    def _sort(self) -> None:
        if self._added:
            digests = np.concatenate([self._sorted, *self._added])
            order = np.append(self._order, np.arange(len(self._order), len(digests)))
            self._added.clear()
            by_digest = np.argsort(digests, kind="stable")
            self._sorted, self._order = digests[by_digest], order[by_digest]


def _digests(keys: Iterable[str]) -> Iterator[npt.NDArray[np.bytes_]]:
    """Digests of the keys, block by block."""
    iterator = iter(keys)
    while block := list(islice(iterator, _BLOCK)):
        joined = b"".join(
            hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            for key in block
        )
        yield np.frombuffer(joined, dtype="S16")
