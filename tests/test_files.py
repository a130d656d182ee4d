"""Files are whole or absent, and a broken one is named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2ipal.errors import UserError
from t2ipal.files import (
    atomic_path,
    read_jsonl,
    read_lines,
    read_yaml,
    sha256_text,
    write_jsonl,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("killed")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_stands_under_the_name_while_it_is_written(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.suffix == target.suffix
    assert target.read_text() == "new"


def test_jsonl_comes_back_with_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"a": 1}, {"b": "Zürich"}]
    write_jsonl(path, rows)
    assert list(read_jsonl(path)) == list(enumerate(rows, start=1))


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b'{"a": 1}\n{"b": \n', ":2:", "broken JSON"),
        (b'{"a": 1}\n[2]\n', ":2:", "expected a JSON object"),
        (b'{"a": 1}\n\n{"a": "\xff"}\n', ":3:", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, where: str, what: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=what) as error:
        list(read_jsonl(path))
    assert f"{path}{where}" in str(error.value)


def test_a_missing_file_and_a_folder_are_user_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            list(read_lines(path))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert list(read_lines(path)) == [(1, "one"), (2, "two")]


def test_joined_parts_cannot_be_confused() -> None:
    assert sha256_text("ab", "c") != sha256_text("a", "bc")


def test_yaml_in_another_encoding_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("classes: voc2007\ncaptions: Zürich.txt\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.yaml:2: not UTF-8"):
        read_yaml(path)
