"""Text and tables in the encodings and layouts that people's files have."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2ipal.errors import UserError
from t2ipal.files import tables
from t2ipal.files.tables import looks_like_table, read_json, read_table, read_text, text_lines
from t2ipal.files.yaml_files import read_yaml
from t2ipal.vocabulary import Vocabulary

CAPTIONS = ["a dog", "ein Hündchen", "", "«la» fenêtre", "the end"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_encodings_and_line_ends(encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(end.join(CAPTIONS).encode(encoding))
    assert list(text_lines(path)) == list(enumerate(CAPTIONS, start=1))


def test_windows_1252_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes("caf\u00e9".encode("cp1252"))
    with caplog.at_level(logging.WARNING):
        assert read_text(path) == "caf\u00e9"
    assert "old.txt: not UTF-8 text; read as Windows-1252" in caplog.text


def test_text_in_two_encodings_is_refused_with_both_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mixed.txt"
    utf_8, other = "caf\u00e9".encode(), "caf\u00e9".encode("cp1252")
    for lines, sentence in (
        ([b"a", utf_8, b"b", other], "mixed.txt:4: not UTF-8 text, though line 2 is"),
        ([b"a", other, b"b", utf_8], "mixed.txt:2: not UTF-8 text, though line 4 is"),
    ):
        path.write_bytes(b"\n".join(lines))
        with pytest.raises(UserError, match=sentence):
            read_text(path)
    caplog.clear()
    path = tmp_path / "old.txt"
    path.write_bytes(b"\n".join([other] * 3))
    for _ in range(2):
        assert read_text(path) == "\n".join(["caf\u00e9"] * 3)
    assert len(caplog.records) == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match=r"pipe\.txt: is a pipe, socket or device"):
        read_text(tmp_path / "pipe.txt")


def test_damage_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    whole = gzip.compress("".join(f"line {n} of many\n" for n in range(20_000)).encode())
    for damaged in (whole[:-20], whole[:2000] + b"\xff" * 50 + whole[2050:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.txt\.gz:\d+: cannot be read"):
            read_text(path)
    wide = tmp_path / "a.txt"
    wide.write_bytes("one\ntwo\n".encode("utf-16") + b"\x00")
    with pytest.raises(UserError, match=r"a\.txt: broken UTF-16"):
        read_text(wide)


def test_every_byte_is_read_in_some_way(tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_bytes(bytes(set(range(1, 256)) - {10, 13}))
    assert len(read_text(path)) == 253


@pytest.mark.parametrize("byte", [0x81, 0x8D, 0x8F, 0x90, 0x9D])
def test_bytes_that_windows_1252_lacks(byte: int, tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_bytes(bytes([byte]) + b" caf\xe9")
    assert read_text(path) == f"{chr(byte)} caf\u00e9"


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt.gz"
    path.write_bytes(gzip.compress("a dog\na cat\n".encode("utf-16")))
    assert read_text(path) == "a dog\na cat"
    path.write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"captions.txt.gz: cannot be read"):
        read_text(path)


def test_other_line_breaks_of_unicode_end_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\u2028b\x0bc\x85d\n", encoding="utf-8")
    assert [number for number, _ in text_lines(path)] == [1]


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x01\x02\x03\x04")
    with pytest.raises(UserError, match=r"a.txt"):
        read_text(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path)


cells = st.lists(
    st.lists(st.text(alphabet="ab ,;|'\"é", min_size=1).map(str.strip), min_size=2, max_size=2),
    min_size=1,
).filter(lambda rows: all(any(row) for row in rows))


@given(cells, st.sampled_from([",", ";", "|"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], mark: str, encoding: str
) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=mark).writerows([["image", "caption"], *rows])
    path = tmp_path_factory.mktemp("t") / "a.csv"
    path.write_bytes(stream.getvalue().encode(encoding))
    table = read_table(path)
    assert table.columns == ("image", "caption")
    assert [row for _, row in table.rows] == rows


def test_quotation_marks_of_tab_separated_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('id\tcaption\n1\t"a dog" sits\n2\ta 6" nail\n3\t"quoted\n4\tplain\n')
    assert [row for _, row in read_table(path).rows] == [
        ["1", '"a dog" sits'], ["2", 'a 6" nail'], ["3", '"quoted'], ["4", "plain"],
    ]  # fmt: skip
    path.write_text('id\tcaption\n1\t"a\tdog"\n2\tplain\n')
    assert [row for _, row in read_table(path).rows] == [["1", "a\tdog"], ["2", "plain"]]
    path.write_text('id\tcaption\n1\t"a ""big"" dog"\n2\t"plain"\n')
    assert [row for _, row in read_table(path).rows] == [["1", 'a "big" dog'], ["2", "plain"]]


def test_lines_of_rows_and_of_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('sep=;\nimage;caption\n\na.jpg;"two\nlines"\nb.jpg;one\n')
    assert list(read_table(path).rows) == [(4, ["a.jpg", "two\nlines"]), (6, ["b.jpg", "one"])]
    path.write_text("image,caption\na.jpg,one\nb.jpg,two, three\n")
    with pytest.raises(UserError, match=r"a.csv:3: 3 cells where the header has 2"):
        list(read_table(path).rows)
    path.write_text('image,caption\na.jpg,"one\n')
    with pytest.raises(UserError, match=r"a.csv:2: broken row"):
        list(read_table(path).rows)


def test_what_is_plainly_a_table() -> None:
    flickr = ["1000.jpg#0\tA child .", "1000.jpg#1\tA girl ."]
    assert looks_like_table(flickr) == "\t"
    assert looks_like_table(["image,caption", "1.jpg,A child, alone"], ["image", "caption"]) == ","
    assert looks_like_table(["image_name| comment", "1.jpg| A"], ["image_name"]) == "|"
    assert looks_like_table(["a dog, a cat", "a man, a plan"], ["caption"]) is None
    assert (
        looks_like_table(
            ["a caption, of sorts, that is long enough to be a sentence by all means"], ["caption"]
        )
        is None
    )
    assert looks_like_table([]) is None


def test_json_names_line_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(codecs.BOM_UTF8 + b'{"a": 1}')
    assert read_json(path) == {"a": 1}
    path.write_text('{\n"a": }')
    with pytest.raises(UserError, match=r"a.json:2: broken JSON"):
        read_json(path)
    path.write_text("[" * 200_000)
    with pytest.raises(UserError, match="nested too deeply"):
        read_json(path)
    path.write_text('{"a": ' + "1" * 5000 + "}")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_json(path)


def test_huge_files_are_refused_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 3 * 2**30)  # takes no space on disk
    for read in (read_json, read_yaml, Vocabulary.load, lambda path: list(text_lines(path))):
        with pytest.raises(UserError, match=r"a\.(json|txt).*(has 3,072 MB|zero bytes)") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    path.rename(tmp_path / "a.txt")
    with pytest.raises(UserError, match="has 3,072 MB, more than"):
        Vocabulary.load(tmp_path / "a.txt")
    monkeypatch.setattr(tables, "LONGEST", 100)
    path.write_text("a" * 99 + "\n" + "b" * 99 + "\n" + "c" * 101)
    with pytest.raises(UserError, match=r"a\.json:3: the line is longer than 100 characters"):
        list(text_lines(path))
    assert [len(line) for _, line in islice(text_lines(path), 2)] == [99, 99]
    path.write_text(f'["{"a" * 200}"]')
    assert len(read_json(path)[0]) == 200  # a document may stand on one line


def test_a_packed_file_out_of_all_proportion_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress((b"0" * 1023 + b"\n") * 2**17, 9))
    with pytest.raises(UserError, match=r"bomb\.txt\.gz:\d+: cannot be read .more than \d+ MB"):
        list(text_lines(path))
    path.write_bytes(gzip.compress(b"a dog\n" * 2**20, 9))  # repeats itself, but is small
    assert sum(1 for _ in text_lines(path)) == 2**20
