"""Files are whole or absent, and a broken one is named by file and line."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from t2ipal.errors import UserError
from t2ipal.files import (
    NO_OTHER_KEYS,
    atomic_path,
    check,
    read_jsonl,
    read_rows,
    sha256_text,
    write_jsonl,
    write_text,
    written_jsonl,
)
from t2ipal.files.tables import text_lines
from t2ipal.files.yaml_files import read_yaml, read_yaml_texts, yaml_line


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


@dataclass(frozen=True, slots=True)
class _Part:
    size: float

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    number: int
    parts: tuple[_Part, ...] = ()
    found: dict[str, bool] = field(default_factory=dict)

    __pydantic_config__ = NO_OTHER_KEYS

    def __post_init__(self) -> None:
        if self.number < 0:
            raise UserError("numbers count from 0.")


def test_rows_come_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [_Row("Zürich\u2028", 3, (_Part(0.1), _Part(2.0)), {"a": True}), _Row("", 2**70)]
    write_jsonl(path, rows)
    assert list(read_rows(path, _Row)) == [*enumerate(rows, start=1)]
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert first.startswith('{"name": "Zürich') and '"parts": [{"size": 0.1}, ' in first
    path.write_bytes(path.read_bytes() + b'\n{"name": "torn')
    assert [row for _, row in read_rows(path, _Row, ended=True)] == rows


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"name": "a", "number": ', r"broken JSON \(.*column 24\); repair or remove the line\."),
        ("[3]", "expected a JSON object, found"),
        ('{"name": "a"}', "'number' is missing\\."),
        ('{"name": 3, "number": 1}', "'name' must be text, not 3\\."),
        ('{"name": "a", "number": "1"}', "'number' must be a whole number, not '1'"),
        ('{"name": "a", "number": true}', "'number' must be a whole number, not True"),
        ('{"name": "a", "number": 1.0}', "'number' must be a whole number, not 1.0"),
        ('{"name": "a", "number": -1}', ":2: numbers count from 0\\.$"),
        ('{"name": "a", "number": 1, "nmae": 1}', r"unknown key 'nmae' \(did you mean 'name'\?\)"),
        ('{"name": "a", "number": 1, "parts": {}}', "'parts' must be a list"),
        ('{"name": "a", "number": 1, "parts": [1]}', "an entry of 'parts' must be a mapping"),
        ('{"name": "a", "number": 1, "parts": [{"size": ""}]}', "'size' must be a number"),
        ('{"name": "a", "number": 1, "parts": [{"size": 1, "x": 2}]}', "unknown key 'x'"),
        ('{"name": "a", "number": 1, "found": []}', "'found' must be a mapping"),
        ('{"name": "a", "number": 1, "found": {"b": 1}}', "'b' must be true or false, not 1"),
    ],
)
def test_a_wrong_row_is_one_sentence_with_its_line(
    tmp_path: Path, line: str, sentence: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"name": "a", "number": 1}\n' + line + "\n")
    with pytest.raises(UserError, match=sentence) as error:
        list(read_rows(path, _Row))
    assert str(error.value).startswith(f"{path}:2: ") and "\n" not in str(error.value)


def test_values_of_yaml_are_checked_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: x\nnumber: 3\nparts:\n  - size: 1\n  -\n    size: large\n")

    def place(keys: Sequence[str | int]) -> str:
        return f"{path.name}:{yaml_line(path, keys)}"

    with pytest.raises(UserError, match=r"^a\.yaml:6: 'size' must be a number"):
        check(_Row, read_yaml(path), place)
    path.write_text("name: x\nnumber: 3\nparts:\n  - size: 1\n")
    assert check(_Row, read_yaml(path), place) == _Row("x", 3, (_Part(1.0),))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["a"], 1),
        (["b", 1], 4),
        (["b", 1, "c"], 4),
        (["b", 1, "d"], 5),
        (["b", 7], 2),
        (["b", 1, "d", "deeper"], 5),
        (["none"], None),
        ([], None),
    ],
)
def test_lines_of_yaml(tmp_path: Path, keys: Sequence[str | int], line: int | None) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb:\n  - 2\n  - c: 3\n    d: 4\n")
    assert yaml_line(path, keys) == line


def test_yaml_texts_are_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("[no, 1.10, {null: ~}]\n")
    assert read_yaml_texts(path) == ["no", "1.10", {"null": "~"}]
    path.write_text("")
    assert read_yaml_texts(path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [2\n", r"a\.yaml:3: is not YAML"),
        ("a: 1\n---\nb: 2\n", r"a\.yaml:2: is not YAML"),
        ("a: !!python/name:os.system\n", r"a\.yaml:1: is not YAML"),
        ("a: 2001-99-99\n", r"a\.yaml: holds a value that cannot be \(month must be in 1..12\)"),
        ("a: !!int abc\n", r"a\.yaml: holds a value"),
        ("a: !!bool maybe\n", r"a\.yaml: holds a value"),
        ("a: !!timestamp x\n", r"a\.yaml: holds a value"),
        ("a: " + "9" * 5000 + "\n", r"a\.yaml: holds a value"),
        ("a: " + "[" * 3000 + "]" * 3000 + "\n", r"a\.yaml.*: is not YAML"),
        ("a: &a [*a]\n", r"a\.yaml:1: an alias stands within what it names"),
        (
            "b: &b0 [x]\nc:\n" + "".join(f"- &b{i} [{f'*b{i - 1},' * 9}]\n" for i in range(1, 12)),
            r"a\.yaml:\d+: unfolds to more than",
        ),
        ("a: 1\nb:\n- {c: 1, c: 2}\n", r"a\.yaml:3: the key 'c' is given twice"),
        ("- a\n", r"a\.yaml: expected keys and values"),
        ("", r"a\.yaml: expected keys and values"),
    ],
)
def test_what_is_wrong_in_yaml_is_told_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b'{"a": 1}\n{"b": \n', ":2:", "broken JSON"),
        (b'{"a": 1}\n[2]\n', ":2:", "expected a JSON object"),
        ('{"a": "é"}\n\n'.encode() + b'{"a": "\xff"}\n', ":3:", "not UTF-8 text, though line 1 is"),
        (b'{"a": 1}\n{"a": "\0"}\n', ":2:", "zero bytes"),
        (b'{"a": 1}\n' + b"[" * 200_000, ":2:", "nested too deeply"),
        (b'{"a": 1}\n{"a": ' + b"1" * 5000 + b"}", ":2:", "thousands of digits"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, where: str, what: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=what) as error:
        list(read_jsonl(path))
    assert f"{path}{where}" in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_in_the_encodings_of_any_text(tmp_path: Path, encoding: str, name: str) -> None:
    path = tmp_path / name
    content = '{"name": "one", "number": 1}\r\n{"name": "Zürich", "number": 2}'.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    assert [row["name"] for _, row in read_jsonl(path)] == ["one", "Zürich"]
    assert list(read_rows(path, _Row)) == [(1, _Row("one", 1)), (2, _Row("Zürich", 2))]


def test_a_last_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": "ü"}\n{"a": "ü'.encode()[:-1])
    assert list(read_jsonl(path, ended=True)) == [(1, {"a": "ü"})]


def test_a_missing_file_and_a_folder_are_user_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            list(text_lines(path))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert list(text_lines(path)) == [(1, "one"), (2, "two")]


def test_joined_parts_cannot_be_confused() -> None:
    assert sha256_text("ab", "c") != sha256_text("a", "bc")


def test_yaml_in_another_encoding_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("classes: voc2007\ncaptions: Zürich.txt\n".encode("latin-1"))
    assert read_yaml(path)["captions"] == "Zürich.txt"
    assert "config.yaml: not UTF-8 text; read as Windows-1252" in caplog.text


def test_a_folder_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path(".")):
        with pytest.raises(IsADirectoryError):
            write_text(folder, "x")


def test_rows_pass_through_while_they_are_written(tmp_path: Path) -> None:
    path, taken = tmp_path / "rows.jsonl", []
    rows = written_jsonl(path, (taken.append(n) or {"n": n} for n in range(3)))
    assert next(rows) == {"n": 0} and taken == [0] and not path.exists()
    assert [*rows] == [{"n": 1}, {"n": 2}] and path.read_text().count("\n") == 3
    rows = written_jsonl(path, ({"n": n} for n in range(9)))
    next(rows)
    rows.close()
    assert path.read_text().count("\n") == 3 and [*tmp_path.iterdir()] == [path]
