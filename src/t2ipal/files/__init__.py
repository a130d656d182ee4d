"""Files that are either whole or absent: write to a temporary name, then rename."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import os
import re
import reprlib
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from t2ipal.errors import UserError, nearest
from t2ipal.files.tables import parse_json, text_lines

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

Row = TypeVar("Row")
Keys = Sequence[str | int]

NO_OTHER_KEYS = {"extra": "forbid"}
"""The ``__pydantic_config__`` of rows: a key that is no field is an error."""


LOCK = ".t2ipal.lock"
_PARTIAL = re.compile(r"\..*\.(?P<machine>\w{8})-(?P<process>\d+)-(?P<token>\w{8})\d*\.partial\b.*")
_ABANDONED = 24 * 3600  # seconds after which what a process on another machine left is removed
_TOKEN = secrets.token_hex(4)  # the number of a process may come again
_numbers = itertools.count()
_swept: set[Path] = set()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; renamed to it on success, removed otherwise.

    The temporary name keeps the suffix, so that writers that choose a format by suffix work. What
    killed processes left half-written in the folder is removed first.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _swept:
        _swept.add(path.parent)
        sweep(path.parent)
    temporary = temporary_path(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A name beside ``path`` that no other process takes, and by which :func:`sweep` knows it."""
    stem = os.fsencode(path.stem)[:150].decode(errors="ignore")
    unique = f"{_machine()}-{os.getpid()}-{_TOKEN}{next(_numbers)}"
    return path.with_name(f".{stem}.{unique}.partial{path.suffix}")


def sweep(folder: Path, *, alone: bool = False) -> None:
    """Remove what processes that are no more left half-written in a folder.

    Args:
        alone: nobody else writes there, on other machines neither.
    """
    try:
        found = [entry for entry in os.scandir(folder) if ".partial" in entry.name]
    except OSError:
        return
    for entry in found:
        name = _PARTIAL.fullmatch(entry.name)
        with suppress(OSError):
            if name is None or not (alone or _abandoned(name, entry.stat().st_mtime)):
                continue
            if name["process"] == str(os.getpid()) and name["token"] == _TOKEN:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _abandoned(name: re.Match[str], modified: float) -> bool:
    if name["machine"] != _machine():
        return time.time() - modified > _ABANDONED
    process = int(name["process"])
    if process == os.getpid():
        return name["token"] != _TOKEN
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return time.time() - modified > _ABANDONED


@cache
def _machine() -> str:
    """Where the number of a process means the same: a host, and a container on it."""
    try:
        numbers = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        numbers = ""
    return sha256_text(socket.gethostname(), numbers)[:8]


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, whole or not at all; one that has this content already is left alone.

    So a finished job can be started again where nothing can be written.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def to_json_line(row: object, encoding: str = "utf-8") -> str:
    """One JSON object on one line, newline included: a mapping or a dataclass, in its own order.

    What ``encoding`` lacks, such as bytes in a file's name that are no UTF-8, is escaped.
    """
    line = json.dumps(row, ensure_ascii=False, default=_fields)
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        line = json.dumps(row, default=_fields)
    return line + "\n"


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def write_jsonl(path: str | Path, rows: Iterable[object]) -> None:
    """Write one JSON object per line, mappings or dataclasses, whole or not at all."""
    for _ in written_jsonl(path, rows):
        pass


def written_jsonl(path: str | Path, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield ``rows``, each written as by :func:`write_jsonl`; the file is there behind the last."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(to_json_line(row))
            yield row


def read_jsonl(path: str | Path, *, ended: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each line that is not blank; ``ended`` as in
    :func:`t2ipal.files.tables.text_lines`.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object.
    """
    for number, line in text_lines(path, ended=ended):
        if not line.strip():
            continue
        row = parse_json(line, path, number)
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}.")
        yield number, row


def read_rows(
    path: str | Path, kind: type[Row], *, ended: bool = False
) -> Iterator[tuple[int, Row]]:
    """Yield (line number, ``kind``) for each line that is not blank; ``ended`` as in
    :func:`t2ipal.files.tables.text_lines`.

    Args:
        kind: a dataclass that :func:`to_json_line` wrote. Values must be of exactly its types
            (JSON arrays are tuples). Its ``__post_init__`` may refuse them with a UserError.

    Raises:
        UserError: the file cannot be read, or a line is not such a row; the line is named.
    """
    from pydantic import ValidationError

    parse = row_parser(kind)
    for number, line in text_lines(path, ended=ended):
        if not line.strip():
            continue
        try:
            row = parse(line)
        except ValidationError as error:
            raise UserError(f"{path}:{number}: {_mistake(kind, error)[1]}") from None
        yield number, row


def row_parser(kind: type[Row]) -> Callable[[str | bytes], Row]:
    """What makes a row of a line; a mistake in it is a ValueError of pydantic's."""
    # what TypeAdapter.validate_json calls, which takes some microseconds more
    return partial(_adapter(kind).validator.validate_json, strict=True)  # type: ignore[arg-type]


def check(kind: type[Row], value: object, place: Callable[[Keys], str]) -> Row:
    """``value``, as JSON or YAML holds it, as a ``kind`` such as a dataclass or a tuple of them.

    Args:
        place: what an error begins with, by the keys and positions that lead to the wrong value:
            a file and :func:`yaml_line`, say.

    Raises:
        UserError: a key is missing or unknown, or a value of another type.
    """
    from pydantic import ValidationError

    try:
        checked: Row = _adapter(kind).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        keys, sentence = _mistake(kind, error)
        raise UserError(f"{place(keys)}: {sentence}") from None
    return checked


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _mistake(kind: Any, error: ValidationError) -> tuple[Keys, str]:
    """The first mistake in a ``kind``: the keys that lead to it, and a sentence."""
    mistakes = error.errors(include_url=False)
    # a misspelt key is unknown, and the right one is missing
    first = next((one for one in mistakes if one["type"] in _UNKNOWN_KEY), mistakes[0])
    keys, problem, cause = first["loc"], first["type"], first.get("ctx", {}).get("error")
    names = [key for key in keys if isinstance(key, str)]
    name = repr(names[-1]) if names else "it"
    if keys and isinstance(keys[-1], int):
        name = f"an entry of {name}" if names else "an entry"
    if isinstance(cause, UserError):
        return keys, str(cause)
    if problem == "json_invalid":
        return (
            keys,
            f"broken JSON ({str(cause).replace('line 1 ', '')}); repair or remove the line.",
        )
    if problem in ("missing", "missing_argument"):
        return keys, f"{name} is missing."
    if problem in _UNKNOWN_KEY:
        rows = [row for row in (kind, *get_args(kind)) if dataclasses.is_dataclass(row)]
        known = [field.name for row in rows for field in dataclasses.fields(row)]
        hint = nearest(names[-1], known) or f"; known: {', '.join(known)}"
        return keys, f"unknown key {name}{hint}."
    found = reprlib.repr(first["input"])
    if not keys and problem == "dataclass_type":
        return keys, f"expected a JSON object, found {found}."
    wanted = _WANTED.get(problem) or first["msg"].removeprefix("Input should be ")
    return keys, f"{name} must be {wanted}, not {found}."


_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
_WANTED = {
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
}


def append_jsonl(path: Path, row: object) -> None:
    """Add a row, whole or not at all: a small journal is rewritten with one more line."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, text + to_json_line(row))


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(*parts: str) -> str:
    """SHA-256 of the parts joined by a zero byte, in hex; stable across processes."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
