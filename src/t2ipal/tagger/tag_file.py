"""Tags of many images in one file, CSV or JSON lines, that an interrupted job takes up again.

Rows go into FILE.partial as they come. A finished FILE has its rows in the order of the images,
and FILE.made_from.json beside it, which says what made them: with the same model and options the
rows that are there are kept, and only further images are tagged.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from t2ipal.errors import UserError
from t2ipal.files import atomic_path, to_json_line, write_text
from t2ipal.files.lock import one_job
from t2ipal.files.names import readable_name
from t2ipal.files.tables import csv_cell, from_csv_cell, refuse_special
from t2ipal.tagger.tags import Tags

KINDS = ("csv", "jsonl")


def header_line(kind: str, names: Sequence[str]) -> str | None:
    """The first line of a file of this kind; None if it has none."""
    return _csv_line("image", "labels", *names) if kind == "csv" else None


def tags_line(kind: str, tags: Tags, shown: Sequence[str], encoding: str = "utf-8") -> str:
    """One image as a line of CSV or JSON, without its end: the shown tags, and all probabilities.

    ``t2ipal eval --data`` and every reader of ``labels.csv`` take the CSV.
    """
    if kind == "csv":
        scores = [round(value, 4) for value in tags.values()]
        return _csv_line(readable_name(str(tags.image)), "|".join(shown), *scores)
    return to_json_line(tags.to_json() | {"tags": list(shown)}, encoding).rstrip("\n")


class TagFile:
    """A file of tags that is being written; see :meth:`open`.

    Attributes:
        missing: the images that have no row yet.
    """

    def __init__(self, path: Path, kind: str, files: Sequence[str]) -> None:
        self._path, self._kind, self._files = path, kind, files
        self._partial = path.with_name(f"{path.name}.partial")
        # Image as a row names it -> the file that has its row, and where.
        self._rows: dict[str, tuple[Path, int]] = {}
        self._stream: IO[bytes] | None = None
        self.missing: list[str] = []

    @classmethod
    @contextmanager
    def open(
        cls,
        path: str | Path,
        kind: str,
        names: Sequence[str],
        made_from: Mapping[str, Any],
        files: Sequence[str],
        *,
        overwrite: bool = False,
    ) -> Iterator[TagFile]:
        """Take up the tags of ``files`` where they were left; they are whole when the block ends.

        Args:
            kind: csv or jsonl.
            names: the classes, for the header.
            made_from: what the rows depend on: model and options, as JSON holds them.
            overwrite: replace a file that was made from something else.

        Raises:
            UserError: the file was made from something else, or another process writes it.
        """
        path = Path(path)
        record = path.with_name(f"{path.name}.made_from.json")
        with one_job(path.parent, path.name):
            self = cls(path, kind, files)
            for one in (path, self._partial, record):
                refuse_special(one)
            try:
                old = json.loads(record.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                old = None
            there = [one for one in (path, self._partial) if one.exists()]
            if there and old != made_from and not overwrite:
                changed = sorted(key for key in made_from if (old or {}).get(key) != made_from[key])
                why = f"with another {' and '.join(changed)}" if old else "by something else"
                raise UserError(
                    f"{there[0]}: was made {why}; name another file, or replace it with "
                    "--overwrite."
                )
            if old != made_from:
                for one in there:
                    one.unlink()
                write_text(record, json.dumps(made_from, indent=1) + "\n")
            head = header_line(kind, names)
            self._find_rows(path, head)
            self._find_rows(self._partial, None)
            self.missing = [file for file in files if readable_name(file) not in self._rows]
            if self.missing or not path.exists():
                with self._partial.open("ab") as stream:
                    self._stream = stream
                    yield self
                self._assemble(head)
            else:
                yield self

    def add(self, tags: Tags, shown: Sequence[str]) -> None:
        """Write the row of an image that could be read."""
        assert self._stream is not None, "something is missing"
        self._rows[readable_name(str(tags.image))] = self._partial, self._stream.tell()
        self._stream.write(tags_line(self._kind, tags, shown).encode() + b"\n")
        self._stream.flush()

    def _find_rows(self, path: Path, head: str | None) -> None:
        """Where the rows of a file start; a line that was cut off is cut away."""
        if not path.exists():
            return
        at = 0
        with path.open("rb") as stream:
            for number, line in enumerate(stream):
                if not line.endswith(b"\n"):
                    break
                if number or head is None:
                    self._rows[_image_of(self._kind, line.decode())] = path, at
                at += len(line)
        if at < path.stat().st_size:
            with path.open("r+b") as stream:
                stream.truncate(at)

    def _assemble(self, head: str | None) -> None:
        """All rows in the order of the images, in the file itself."""
        with atomic_path(self._path) as temporary, temporary.open("wb") as out:
            if head is not None:
                out.write(head.encode() + b"\n")
            opened: dict[Path, IO[bytes]] = {}
            try:
                for file in self._files:
                    if (row := self._rows.get(readable_name(file))) is not None:
                        path, at = row
                        if path not in opened:
                            opened[path] = path.open("rb")
                        opened[path].seek(at)
                        out.write(opened[path].readline())
            finally:
                for stream in opened.values():
                    stream.close()
        self._partial.unlink()


def _image_of(kind: str, line: str) -> str:
    if kind == "jsonl":
        return readable_name(str(json.loads(line)["image"]))
    return from_csv_cell(next(csv.reader([line]))[0])


def _csv_line(*cells: str | float) -> str:
    stream = io.StringIO()
    safe = [csv_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(stream, lineterminator="").writerow(safe)
    return stream.getvalue()
