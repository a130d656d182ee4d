"""Rows on disk against the same rows in a list, and an index of keys against a dict."""

from __future__ import annotations

import errno
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.errors import UserError
from t2ipal.files import read_rows, to_json_line, write_jsonl
from t2ipal.files.row_file import KeyIndex, Lazy, RowFile


@pytest.fixture(autouse=True, params=["on disk", "in memory"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "on disk":
        monkeypatch.setattr("t2ipal.files.row_file._SMALL", 0)


def captions(count: int) -> list[LabelledCaption]:
    rng = np.random.default_rng(count)
    return [
        LabelledCaption(f"c{n}", "ein Hündchen\u2028" * int(rng.integers(1, 400)), ("dog",), (), {})
        for n in range(count)
    ]


def test_rows_are_those_of_the_file_in_any_order(tmp_path: Path) -> None:
    rows = captions(300)  # longer together than what is read at once
    write_jsonl(tmp_path / "a.jsonl", rows)
    told: list[tuple[int, LabelledCaption]] = []
    found = RowFile(tmp_path / "a.jsonl", LabelledCaption, each=lambda *row: told.append(row))
    assert found == rows and rows == found and found != rows[:-1]
    assert told == list(enumerate(rows, start=1))
    for position in np.random.default_rng(0).permutation(len(rows)).tolist():
        assert found[position] == rows[position] == found[position - len(rows)]
    assert found[-3::-7] == rows[-3::-7] and found[299:400] == rows[299:]
    with pytest.raises(IndexError):
        found[300]


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: gzip.compress(text.encode()),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\n\n \n").encode(),
        lambda text: text.removesuffix("\n").encode(),
    ],
    ids=["mark", "utf-16", "gzip", "crlf", "blank lines", "no last line break"],
)
def test_rows_of_any_file_that_can_be_read(
    tmp_path: Path, write: Callable[[str], bytes], recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / ("a.jsonl.gz" if write("").startswith(b"\x1f\x8b") else "a.jsonl")
    path.write_bytes(write("".join(map(to_json_line, captions(30)))))
    expected = list(read_rows(path, LabelledCaption))
    told: list[tuple[int, LabelledCaption]] = []
    found = RowFile(path, LabelledCaption, each=lambda *row: told.append(row))
    assert told == expected and found == [row for _, row in expected]


@pytest.mark.parametrize("kept", [b"", b'{"id": ', b"\xff\n"])
def test_a_broken_row_is_named_and_rows_before_it_are_told_once(
    tmp_path: Path, kept: bytes
) -> None:
    path = tmp_path / "a.jsonl"
    lines = "".join(map(to_json_line, captions(3))).encode()
    path.write_bytes(lines + b'{"id": "x"}\n' + kept)
    told: list[int] = []
    with pytest.raises(UserError, match=r"a\.jsonl:4: '"):
        RowFile(path, LabelledCaption, each=lambda number, _: told.append(number))
    assert told == [1, 2, 3]
    path.write_bytes(lines + kept.rstrip(b"\n"))
    assert len(RowFile(path, LabelledCaption, ended=True)) == 3
    with pytest.raises(UserError, match=r"nothing\.jsonl: cannot be read"):
        RowFile(tmp_path / "nothing.jsonl", LabelledCaption)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"a\.jsonl: is a pipe"):
        RowFile(tmp_path / "a.jsonl", LabelledCaption)


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BufferedReader):
        def readline(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    path, opened = tmp_path / "a.jsonl", Path.open
    write_jsonl(path, captions(3))
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode: Failing(opened(self, mode, buffering=0)),  # type: ignore[arg-type]
    )
    monkeypatch.setattr("t2ipal.files.row_file.read_rows", refuse)
    with pytest.raises(UserError, match="told by the other reader"):
        RowFile(path, LabelledCaption)


def refuse(*_: object, **__: object) -> None:
    raise UserError("told by the other reader")


def test_a_file_that_is_replaced_keeps_its_rows(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.jsonl", captions(200)
    write_jsonl(path, rows)
    found = RowFile(path, LabelledCaption)
    write_jsonl(path, captions(3))
    assert found == rows
    os.unlink(path)
    assert found[150] == rows[150]


@pytest.mark.parametrize("seed", range(5))
def test_positions_of_keys_are_those_of_a_dict(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = [f"k{number}\udcff" for number in rng.integers(0, 60, 100)]
    index, early = KeyIndex(keys[:40]), KeyIndex(keys[:40], first=True)
    assert early.find(["nothing", keys[3]]).tolist() == [-1, keys.index(keys[3])]
    index.add(*keys[40:])
    early.add(*keys[40:])
    wanted = [f"k{number}\udcff" for number in range(70)]
    last = {key: place for place, key in enumerate(keys)}
    assert index.find(wanted).tolist() == [last.get(key, -1) for key in wanted]
    first = {key: place for place, key in reversed([*enumerate(keys)])}
    assert early.find(wanted).tolist() == [first.get(key, -1) for key in wanted]
    assert index.distinct().tolist() == sorted(last.values()) and len(index) == 100
    assert early.distinct().tolist() == sorted(first.values())
    again = next(place for place, key in enumerate(keys) if key in keys[:place])
    assert index.repeated() == (max(i for i in range(again) if keys[i] == keys[again]), again)
    assert KeyIndex().find(wanted[:2]).tolist() == [-1, -1]
    assert KeyIndex(wanted).repeated() is KeyIndex().repeated() is None


def test_lazy_values_are_made_when_they_are_asked_for() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number * number

    values = Lazy(10, make)
    assert values[2:9:3][1] == 25 and made == [5]
    assert list(values[-2:]) == [64, 81] and values[-1] == 81 and len(values[20:]) == 0
    with pytest.raises(IndexError):
        values[10]
