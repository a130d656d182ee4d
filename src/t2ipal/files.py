"""Files that are either whole or absent: write to a temporary name, then rename."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from t2ipal.errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; renamed to it on success, removed otherwise.

    The temporary name keeps the suffix, so that writers that choose a format by suffix work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_json_line(row: dict[str, Any]) -> str:
    """One JSON object on one line, newline included; key order is the caller's."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(to_json_line(row) for row in rows)


def read_lines(path: str | Path, *, ended: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its newline).

    ``ended`` leaves out a last line without newline: of a file that is being written, say.

    Raises:
        UserError: the file is missing, a folder, or not UTF-8.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if ended and not line.endswith(b"\n"):
                    return
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise UserError(
                        f"{path}:{number}: not UTF-8 text; save the file as UTF-8."
                    ) from None
                yield number, text.rstrip("\r\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path.") from None


def read_jsonl(path: str | Path, *, ended: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each non-blank line; ``ended`` as in :func:`read_lines`.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object.
    """
    for number, line in read_lines(path, ended=ended):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}:{number}: broken JSON ({error.msg}, column {error.colno}); "
                "repair or remove the line."
            ) from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}.")
        yield number, row


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: the file cannot be read, or is no mapping in YAML; the line is named.
    """
    text = "\n".join(line for _, line in read_lines(path))
    try:
        mapping = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: is not YAML; repair it.") from None
    if not isinstance(mapping, dict):
        raise UserError(f"{path}: expected keys and values, such as 'classes: voc2007'.")
    return mapping


def yaml_line(path: str | Path, keys: Sequence[str]) -> int | None:
    """The line, from 1, of the key that ``keys`` lead to in a YAML file; None if it is not there.

    A file that :func:`read_yaml` reads, that is.
    """
    node = yaml.compose("\n".join(line for _, line in read_lines(path)))
    line = None
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(name, value) for name, value in pairs if name.value == key]
        if not found:
            return None
        line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Add a row, whole or not at all: a small journal is written anew with one more line."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, text + to_json_line(row))


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(*parts: str) -> str:
    """SHA-256 of the parts joined by a zero byte, in hex; stable across processes."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8")).hexdigest()
