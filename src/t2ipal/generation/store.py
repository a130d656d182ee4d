"""The images of a run on disk and the manifest that names them.

    DIR/images/ab/ab12....png   the images, written whole or not at all
    DIR/rejected/ab12...-0.png  rejected because no label was found, kept to be looked at
    DIR/images.jsonl            the manifest: one row per image, in caption order
    DIR/failed.jsonl            the same rows, without file, for images that failed in every attempt
    DIR/unused.jsonl            the same rows for images whose caption is not asked for any more
    DIR/images.partial.jsonl    the journal of an unfinished run: rows in order of arrival
    DIR/images.partial.0-of-4.jsonl  the same of one of several processes that share the run
    DIR/images.partial.ray-*.jsonl   the same of a worker of a Ray cluster

A row enters the journal after its image is in place, so a process killed at any moment loses no
more than the images under way. A journal's last line may be torn; the lines before it are whole.
"""

from __future__ import annotations

import bisect
import errno
import hashlib
import io
import itertools
import logging
import marshal
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from PIL import Image

from t2ipal.errors import UserError
from t2ipal.files import (
    NO_OTHER_KEYS,
    atomic_path,
    sha256_file,
    sha256_text,
    to_json_line,
    write_jsonl,
)
from t2ipal.files.row_file import KeyIndex, RowFile
from t2ipal.parallel.sharding import Shard

log = logging.getLogger(__name__)

_OWN_FILE = re.compile(r"images/\w\w/\w+\.png|rejected/\w+-\d+\.png")
_OUTSIDE = re.compile(r"^/|[\\\0]|(^|/)\.\.(/|$)")
_FINGERPRINT = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected attempt at an image: its seed and why.

    The reason is ``flagged``, ``black``, ``flat`` or ``unseen``; only what is unseen has a file.
    """

    seed: int
    reason: str
    file: str = ""

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One row of the manifest.

    Attributes:
        id: names the image, see :func:`image_id`.
        caption_id, copy, caption: what it was generated from, copies counted from 0.
        labels, unknown: classes that the caption names, and classes it leaves unknown.
        seed: of this attempt.
        attempt: counted from 0.
        generator, revision: the pipeline, or "imported".
        settings: what was asked for (steps, guidance, ...) and, as ``device`` and ``dtype``, what
            it was generated on.
        file, sha256: the PNG, relative to the folder, and its digest; empty if every attempt
            failed.
        rejected: the attempts before this one; this one too if it failed.
        missing: labels that an inspector did not find or, without one, that the caption names only
            behind what the generator reads of it.
        added: classes that it found unasked.
        fingerprint: tells near-duplicates (``duplicates.fingerprint``); empty if it failed.
    """

    id: str
    caption_id: str
    copy: int
    caption: str
    labels: tuple[str, ...]
    unknown: tuple[str, ...]
    seed: int
    attempt: int
    generator: str
    revision: str
    settings: dict[str, Any]
    file: str
    sha256: str
    rejected: tuple[Rejected, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    fingerprint: str

    __pydantic_config__ = NO_OTHER_KEYS

    def relabelled(self, labels: tuple[str, ...], unknown: tuple[str, ...]) -> ImageRow:
        """The row with other labels; what an inspector found is kept as far as it is about them."""
        if (labels, unknown) == (self.labels, self.unknown):
            return self
        return replace(
            self,
            labels=labels,
            unknown=unknown,
            missing=tuple(name for name in self.missing if name in labels),
            added=tuple(name for name in self.added if name not in labels),
        )

    @property
    def failed(self) -> bool:
        """No attempt gave a usable image."""
        return not self.file

    @property
    def seen(self) -> tuple[str, ...]:
        """Its labels without those that an inspector did not find."""
        return tuple(name for name in self.labels if name not in self.missing)

    def __post_init__(self) -> None:
        for file in (self.file, *(entry.file for entry in self.rejected)):
            if not _OWN_FILE.fullmatch(file) and _OUTSIDE.search(file):  # the latter takes longer
                raise UserError(f"the file {file!r} lies outside the manifest's folder; refused.")
        if self.fingerprint and not _FINGERPRINT.fullmatch(self.fingerprint):
            raise UserError("'fingerprint' must be 32 hex digits, or empty.")
        # the same of most rows, held once
        shared = _SETTINGS.setdefault(marshal.dumps(self.settings, 2), self.settings)
        object.__setattr__(self, "settings", shared)


_SETTINGS: dict[bytes, dict[str, Any]] = {}


def image_id(caption_id: str, copy: int) -> str:
    """The name of an image, 20 hex digits: fit for any file system whatever the caption's id."""
    return sha256_text("image", caption_id, str(copy))[:20]


def read_manifest(folder: str | Path) -> Sequence[ImageRow]:
    """The images of a finished run, in caption order; failed ones are not among them.

    Rows are read from the file when they are asked for.

    Raises:
        UserError: the run is missing or unfinished, a row is broken, or a file leads out of
            ``folder``.
    """
    store = ImageStore(folder)
    if journals := store.journals():
        raise UserError(
            f"{journals[0]}: images are still missing here; "
            "run the same 't2ipal generate' again to generate the rest."
        )
    if not store.manifest.exists():
        raise UserError(
            f"{store.manifest}: no image manifest; run 't2ipal generate --out {folder}' first."
        )
    return RowFile(store.manifest, ImageRow)


class StoredRows(Sequence[ImageRow]):
    """The rows of a store, read from its files when they are asked for.

    Of rows with the same id the last one counts; the others are passed over. A row's *number*
    counts these too, file by file.

    Attributes:
        lengths: how many rows each file has, the journals last.
    """

    def __init__(
        self,
        lists: Sequence[Path],
        journals: Sequence[Path],
        each: Callable[[int, ImageRow], None],
    ) -> None:
        self._index = KeyIndex()
        self._files: list[Sequence[ImageRow]] = []

        def note(_: int, row: ImageRow) -> None:
            each(len(self._index), row)
            self._index.add(row.id)

        for path in lists:
            self._files.append(RowFile(path, ImageRow, each=note) if path.exists() else [])
        for path in journals:  # to which other processes may be writing
            try:
                self._files.append(RowFile(path, ImageRow, ended=True, each=note))
            except UserError:
                if path.exists():
                    raise
                # the process that finished the run has just removed it
        self.lengths = [len(file) for file in self._files]
        self._ends = [*itertools.accumulate(self.lengths)]
        self._numbers = self._index.distinct()

    def numbered(self, number: int) -> ImageRow:
        """The row of that number."""
        file = bisect.bisect_right(self._ends, number)
        return self._files[file][number - self._ends[file]]  # counted from the file's end

    def get(self, id: str) -> ImageRow | None:
        """The row of an image."""
        (number,) = self._index.find([id]).tolist()
        return None if number < 0 else self.numbered(number)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> ImageRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageRow]: ...
    def __getitem__(self, index: int | slice) -> ImageRow | list[ImageRow]:
        if isinstance(index, slice):
            return [self.numbered(number) for number in self._numbers[index].tolist()]
        return self.numbered(int(self._numbers[index]))


class ImageStore:
    """The images and the manifest under one folder. ``save`` and ``append`` may run in threads."""

    def __init__(
        self, folder: str | Path, shard: Shard | None = None, worker: str | None = None
    ) -> None:
        self.folder = Path(folder)
        self._prefix = os.path.join(folder, "")
        self.shard = shard
        self.manifest = self.folder / "images.jsonl"
        self.failures = self.folder / "failed.jsonl"
        self.unused = self.folder / "unused.jsonl"
        part = "" if shard is None else f".{shard.index}-of-{shard.count}"
        part = part if worker is None else f".ray-{worker}"
        self.journal = self.folder / f"images.partial{part}.jsonl"
        self._listed_at = 0  # when the manifest was written, in ns
        self._lock = threading.Lock()

    def rows(self, each: Callable[[int, ImageRow], None] = lambda number, row: None) -> StoredRows:
        """The rows of all known images, failed and unused ones too: manifest first, journals last.

        Args:
            each: called with the number of each row and the row, in order.
        """
        if self.manifest.exists():
            self._listed_at = self.manifest.stat().st_mtime_ns
        self._repair_journal()
        lists = (self.manifest, self.failures, self.unused)
        return StoredRows(lists, self.journals(), each)

    def journals(self) -> list[Path]:
        """The journals that are there: a finished run has none."""
        return sorted(self.folder.glob("images.partial*.jsonl"))

    def has(self, row: ImageRow) -> bool:
        """The row's image is there, and the one that it names; a failed row needs none.

        The manifest is written last, so its images are whole. One that was written later, by a run
        that did not end or by somebody else, is compared with the row's digest.
        """
        if row.failed:
            return True
        path = self._prefix + row.file
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode) or not found.st_size:
                return False
            return found.st_mtime_ns <= self._listed_at or sha256_file(path) == row.sha256
        except OSError:
            return False

    def begin(self) -> None:
        """Open the journal, which marks the store unfinished, and sweep up after a killed run."""
        with _writing(self.journal):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.journal.touch()
        if self.shard is not None:
            return  # what looks left behind may be another process's work
        for listed in (self.manifest, self.failures, self.unused):
            for path in self.folder.glob(f".{listed.stem}.*.partial.jsonl"):
                path.unlink()
        self._sweep_images()

    def _sweep_images(self) -> None:
        """Remove what killed processes left half-written; nobody may be writing images."""
        for pattern in ("images/??/.*.partial.png", "rejected/.*.partial.png"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def discard(self, rows: Iterable[ImageRow]) -> None:
        """Remove the images of ``rows``; the manifest forgets them at ``finish``.

        Raises:
            UserError: a row names a file that is not one of a store, or lies elsewhere.
        """
        paths, home = [], self.folder.resolve()
        for row in rows:
            for file in (row.file, *(entry.file for entry in row.rejected)):
                if not file:
                    continue
                path = (self.folder / file).parent.resolve() / Path(file).name
                own = _OWN_FILE.fullmatch(file) is not None and path.is_relative_to(home)
                if not own or path.is_dir():
                    raise UserError(
                        f"{self.folder / file}: is named in the manifest but was not written by "
                        "t2ipal, or lies elsewhere through a link; it is not deleted: remove it "
                        "from the manifest, or use another folder."
                    )
                paths.append(path)
        for path in paths:
            path.unlink(missing_ok=True)

    def save(self, image: Image.Image, id: str) -> tuple[str, str]:
        """Write ``image`` as PNG under ``id``; return its path in the folder and its SHA-256.

        Raises:
            UserError: it cannot be written, for instance because the disk is full.
        """
        return self._write(image, f"images/{id[:2]}/{id}.png")

    def save_rejected(self, image: Image.Image, id: str, attempt: int) -> str:
        """Write a rejected image, as PNG, to ``rejected/``; return its path in the folder.

        Raises:
            UserError: it cannot be written.
        """
        return self._write(image, f"rejected/{id}-{attempt}.png")[0]

    def _write(self, image: Image.Image, file: str) -> tuple[str, str]:
        encoded = io.BytesIO()
        image.convert("RGB").save(encoded, format="PNG")
        content = encoded.getvalue()
        with _writing(self.folder / file), atomic_path(self.folder / file) as temporary:
            temporary.write_bytes(content)
        return file, hashlib.sha256(content).hexdigest()

    def append(self, row: ImageRow) -> None:
        """Add a row to the journal.

        Raises:
            UserError: it cannot be written.
        """
        line = to_json_line(row).encode("utf-8")
        with _writing(self.journal), self._lock, self.journal.open("ab", buffering=0) as stream:
            before = stream.tell()
            try:
                if stream.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:  # no other thread may write behind half a line
                stream.truncate(before)
                raise

    def finish(self, rows: Sequence[ImageRow], unused: Sequence[ImageRow] = ()) -> None:
        """Write the manifest and the lists of failed and unused images; drop the journal."""
        failed = any(row.failed for row in rows)
        with _writing(self.folder):
            for path, listed in (
                (self.failures, (row for row in rows if row.failed) if failed else ()),
                (self.unused, unused),
            ):
                if listed:
                    write_jsonl(path, listed)
                else:
                    path.unlink(missing_ok=True)
            write_jsonl(self.manifest, (row for row in rows if not row.failed))
            for journal in self.journals():
                journal.unlink(missing_ok=True)
            self._sweep_images()  # all images are there, so no shard is writing one

    def _repair_journal(self) -> None:
        """Cut off a last line that a killed process did not finish."""
        if not self.journal.exists():
            return
        content = self.journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            log.info("%s: its torn last line is dropped and generated again", self.journal)
            with self.journal.open("r+b") as stream:
                stream.truncate(whole)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a write that the system refuses (disk full, no permission) into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); the finished images are kept: "
            "free space or fix permissions, then run the same command again."
        ) from error
