"""Reading captions: every format, their ids, and what is said about broken files."""

from __future__ import annotations

import gzip
import json
import logging
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2ipal.captions.sources import Caption, each_caption, read_captions
from t2ipal.errors import UserError
from t2ipal.files import sha256_text


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


def h(text: str, copy: int = 1) -> str:
    """The id of a caption that has none of its own."""
    stem = sha256_text("caption", text)[:12]
    return stem if copy == 1 else f"{stem}-{copy}"


def pairs(path: Path, **options: int) -> list[tuple[str, str]]:
    return [(caption.id, caption.text) for caption in read_captions(path, **options)]


COCO = {
    "info": {},
    "images": [{"id": 7, "file_name": "7.jpg"}],
    "annotations": [
        {"image_id": 7, "id": 31, "caption": "A dog \n on a sofa. "},
        {"image_id": 7, "id": 30, "caption": "A sofa"},
        {"image_id": 9, "id": 32, "caption": "A cat"},
    ],
}


def test_plain_text(tmp_path: Path) -> None:
    path = put(tmp_path, "c.txt", "\ufeffA dog\r\n\r\n  Two   cats\t \r\nA cow")
    assert pairs(path) == [(h(text), text) for text in ("A dog", "Two cats", "A cow")]


def test_text_under_any_other_suffix(tmp_path: Path) -> None:
    texts = ["A dog", "A cat"]
    assert pairs(put(tmp_path, "captions", "\n".join(texts))) == [(h(t), t) for t in texts]
    assert pairs(put(tmp_path, "c.md", "A dog\n")) == [(h("A dog"), "A dog")]


@pytest.mark.parametrize("name", ["c.jsonl", "c.json", "c", "c.ndjson"])
def test_json_lines(name: str, tmp_path: Path) -> None:
    text = '{"caption": "A dog", "id": "x"}\n\n{"text": "A cat", "id": 5}\n{"text": "A cow"}\n'
    assert pairs(put(tmp_path, name, text)) == [
        ("x", "A dog"),
        ("5", "A cat"),
        (h("A cow"), "A cow"),
    ]


def test_caption_wins_over_text(tmp_path: Path) -> None:
    path = put(tmp_path, "c.jsonl", '{"text": "no", "caption": "A dog"}\n')
    assert pairs(path) == [(h("A dog"), "A dog")]


def test_localized_narratives(tmp_path: Path) -> None:
    rows = [
        {"dataset_id": "open", "image_id": "0ab", "annotator_id": 13, "caption": "In this image"},
        {"dataset_id": "open", "image_id": "0ab", "annotator_id": 14, "caption": "We see a dog."},
        {"dataset_id": "open", "image_id": "0ab", "annotator_id": 13, "caption": "Again"},
    ]
    path = put(tmp_path, "n.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert pairs(path) == [
        ("0ab-13", "In this image"),
        ("0ab-14", "We see a dog."),
        ("0ab-13-2", "Again"),
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["c.json", "captions"])
def test_coco(indent: int | None, name: str, tmp_path: Path) -> None:
    path = put(tmp_path, name, json.dumps(COCO, indent=indent))
    expected = [("7-31", "A dog on a sofa."), ("7-30", "A sofa"), ("9-32", "A cat")]
    assert pairs(path) == expected
    assert pairs(path, limit=2) == expected[:2]
    assert pairs(path, limit=99) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", 'id,caption\nx,"A dog, asleep"\ny,A cat\n'),
        ("c.csv", 'ID;Caption\nx;"A dog, asleep"\ny;A cat\n'),
        ("c.csv", 'caption,id,source\n"A dog, asleep",x,web\n\nA cat,y,\n'),
        ("c.tsv", "id\ttext\nx\tA dog, asleep\ny\tA cat\n"),
    ],
)
def test_tables(name: str, text: str, tmp_path: Path) -> None:
    assert pairs(put(tmp_path, name, text)) == [("x", "A dog, asleep"), ("y", "A cat")]


def test_ids_of_a_table_without_ids(tmp_path: Path) -> None:
    path = put(tmp_path, "c.csv", 'caption\nA dog\n"A ""big""\ncat"\nA cow\n')
    assert pairs(path) == [(h(text), text) for text in ("A dog", 'A "big" cat', "A cow")]


def test_derived_ids_step_aside_for_given_ones(tmp_path: Path) -> None:
    row = json.dumps({"text": "b", "id": h("a")})
    path = put(tmp_path, "c.jsonl", f'{{"text": "a"}}\n{row}\n{{"text": "c"}}\n{{"text": "a"}}\n')
    assert pairs(path) == [(h("a", 2), "a"), (h("a"), "b"), (h("c"), "c"), (h("a", 3), "a")]


def test_a_line_put_in_changes_no_other_id(tmp_path: Path) -> None:
    before = dict(pairs(put(tmp_path, "a.txt", "A dog\nA cat\nA dog\n")))
    after = dict(pairs(put(tmp_path, "b.txt", "A cow\nA dog\nA hen\nA cat\nA dog\n")))
    assert before.items() <= after.items() and len(after) == 5


def test_empty_captions_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path, "c.jsonl", '{"text": " "}\n{"text": "a"}\n{"text": ""}\n')
    with caplog.at_level(logging.WARNING):
        assert pairs(path, limit=1) == [(h("a"), "a")]
        assert pairs(path) == [(h("a"), "a")]
    assert "2 empty captions" in caplog.text


def test_halves_of_surrogate_pairs_and_control_characters(tmp_path: Path) -> None:
    path = put(tmp_path, "c.jsonl", '{"text": "a \\ud83d dog\\u0000\\u2028cat"}\n')
    (_, text) = pairs(path)[0]
    assert text == "a ? dog cat"
    text.encode("utf-8")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8))
def test_json_lines_keep_any_text(tmp_path_factory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "c.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    wanted = [
        " ".join("".join(c if c.isprintable() else " " for c in text).split()) for text in texts
    ]
    if any(wanted):
        found = read_captions(path)
        assert [caption.text for caption in found] == [text for text in wanted if text]
        assert len({caption.id for caption in found}) == len(found)
    else:
        with pytest.raises(UserError, match="holds no captions"):
            read_captions(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "", "holds no captions"),
        ("c.txt", " \n\n", "holds no captions"),
        ("c", "", "holds no captions"),
        ("c.jsonl", "", "the file is empty"),
        ("c.json", "", "the file is empty"),
        ("c.json", '{"annotations": []}', "holds no captions"),
        ("c.jsonl", '{"caption": "a"}\n{"caption": \n', r":2: broken JSON"),
        ("c.jsonl", '{"caption": \n{"caption": "a"}', r":1: broken JSON"),
        ("c.jsonl", '{"caption": "a"}\n[1]\n', r":2: expected a JSON object"),
        ("c.jsonl", '{"caption": "a"}\n{"name": "b"}\n', r":2: no 'caption' or 'text' \(keys: na"),
        ("c.jsonl", '{"caption": null}\n', r":1: 'caption' must be text, found null"),
        ("c.jsonl", '{"caption": "a", "id": [1]}\n', r":1: the id \[1\] must be text or a whole"),
        ("c.jsonl", '{"caption": "a", "id": ""}\n', r":1: the id \"\" must be"),
        (
            "c.jsonl",
            '{"text": "a", "id": 1}\n{"text": "b", "id": "1"}\n',
            r":2: the id '1' is on line 1",
        ),
        ("c.json", json.dumps(COCO)[:-30], r":1: broken JSON .*cut short"),
        ("c.json", json.dumps(COCO, indent=1)[:-30], r":\d+: broken JSON"),
        ("c.json", "A dog\n", r":1: broken JSON"),
        ("c.json", "[1, 2]", "without a list 'annotations'"),
        ("c.json", '{"annotations": [3]}', "annotation 1: expected a JSON object"),
        ("c.json", '{"annotations": [{"image_id": 1}]}', "annotation 1: no 'caption'"),
        ("c.json", '{"annotations": [{"bbox": [], "category_id": 1}]}', "not its instances file"),
        ("c.json", "[" * 100000, "nested too deeply|broken JSON"),
        ("c.csv", "", "the file is empty"),
        ("c.csv", "caption\n", "holds no captions"),
        ("c.csv", "id,name\n1,a\n", r":1: no column 'caption' or 'text' in the header"),
        ("c.csv", "caption,Caption\na,b\n", r":1: two columns are called 'caption'"),
        ("c.csv", "id,caption\n1,a\n2,b,c\n", r":3: 3 cells where the header has 2"),
        ("c.csv", 'id,caption\n1,"a\n', r":2: broken row"),
        ("c.csv", "id,caption\n1,a\n,b\n", r":3: the id is empty"),
        ("c.csv", "id,caption\n1,a\n1,b\n", r":3: the id '1' is on line 2 already"),
        ("c.txt", b"A dog\n\0\xff\xfe\n", "is no text"),
        (
            "c.jsonl",
            b'{"caption": "\xff"}\n{"caption": "\xc3\xa9"}\n',
            r":1: not UTF-8 text, though",
        ),
        ("c.jsonl", '{"caption": "a"}\n' + "[" * 100000, r":2: .*nested too deeply"),
        ("c.jsonl", '{"caption": "a", "id": ' + "1" * 5000 + "}", r":1: .*thousands of digits"),
        ("c.json", '[{"caption": "a", "id": ' + "1" * 5000 + "}]", "thousands of digits"),
        ("c.json", b'["a", "\x00"]', "zero bytes"),
    ],
)
def test_broken_files(name: str, text: str | bytes, message: str, tmp_path: Path) -> None:
    path = put(tmp_path, name, text)
    with pytest.raises(UserError, match=message) as caught:
        read_captions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_odd_limits(tmp_path: Path) -> None:
    for name in ("missing.txt", "missing.json", "missing.csv"):
        with pytest.raises(UserError, match="cannot be read"):
            read_captions(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        read_captions(tmp_path)
    path = put(tmp_path, "c.txt", "A dog\n")
    for limit in (0, -1):
        with pytest.raises(UserError, match="at least 1"):
            read_captions(path, limit=limit)


def test_limit_counts_captions_not_lines(tmp_path: Path) -> None:
    path = put(tmp_path, "c.txt", "\nA dog\n\nA cat\nA cow\n")
    assert pairs(path, limit=2) == [(h("A dog"), "A dog"), (h("A cat"), "A cat")]


FLICKR = ["A dog , asleep .", "Two cats | and a cow ."]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.txt", 'image,caption\n1.jpg,"A dog , asleep ."\n1.jpg,Two cats | and a cow .\n'),
        ("results.csv", "image_name| comment_number| comment\n1.jpg| 0| A dog , asleep .\n"),
        ("Flickr8k.token.txt", "1.jpg#0\tA dog , asleep .\n1.jpg#1\tTwo cats | and a cow .\n"),
        ("list.json", json.dumps([{"image": "1.jpg", "caption": FLICKR}])),
        ("texts.json", json.dumps(FLICKR, indent=1)),
        ("by_image.json", json.dumps({"1.jpg": FLICKR})),
        (
            "dataset_flickr8k.json",
            json.dumps(
                {
                    "images": [
                        {"filename": "1.jpg", "sentences": [{"raw": text} for text in FLICKR]},
                    ],
                    "dataset": "flickr8k",
                }
            ),
        ),
    ],
)
def test_known_layouts_are_never_taken_for_captions(name: str, text: str, tmp_path: Path) -> None:
    found = [text for _, text in pairs(put(tmp_path, name, text))]
    assert found == FLICKR[: len(found)] and found


def test_ids_of_known_layouts(tmp_path: Path) -> None:
    path = put(tmp_path, "token.txt", "1.jpg#0\tA dog .\n1.jpg#1\tA cat .\n")
    assert [id for id, _ in pairs(path)] == ["1.jpg#0", "1.jpg#1"]
    path = put(tmp_path, "by.json", json.dumps({"1.jpg": ["a", "b"], "2.jpg": "c"}))
    assert [id for id, _ in pairs(path)] == ["1.jpg", "1.jpg-2", "2.jpg"]
    path = put(tmp_path, "pandas.jsonl", '{"id": 3.0, "caption": "a"}\n')
    assert [id for id, _ in pairs(path)] == ["3"]


def test_other_encodings_and_gzip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for encoding in ("utf-16", "utf-8-sig", "cp1252"):
        path = put(tmp_path, "c.txt", "Ein Hündchen\r\nA cat\r\n".encode(encoding))
        assert [text for _, text in pairs(path)] == ["Ein Hündchen", "A cat"]
    assert "read as Windows-1252" in caplog.text
    path = put(tmp_path, "c.csv.gz", gzip.compress(b"id,caption\nx,A dog\n"))
    assert pairs(path) == [("x", "A dog")]


def test_parquet(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "c.parquet"
    datasets.Dataset.from_dict({"id": [7], "caption": ["A dog"]}).to_parquet(path)
    assert pairs(path) == [("7", "A dog")]
    path.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        read_captions(path)


def test_a_caption_is_checked() -> None:
    assert Caption("1", "") == Caption("1", "")
    with pytest.raises(UserError, match="non-empty text as id"):
        Caption("", "a dog")
    with pytest.raises(UserError, match="expected text"):
        Caption("1", None)  # type: ignore[arg-type]


def test_captions_come_one_by_one_and_a_late_mistake_is_found_first(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "b", "text": "a dog"}\n{"text": "a cat"}\n{"id": "b", "text": "x"}\n')
    with pytest.raises(UserError, match=":3: the id 'b' is on line 1 already"):
        next(each_caption(path))
    assert [one.text for one in each_caption(path, limit=2)] == ["a dog", "a cat"]


def test_a_caption_that_comes_very_often_costs_no_more_than_others(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("a dog\n" * 30_000)
    began = time.process_time()
    captions = read_captions(path)
    assert time.process_time() - began < 10  # a search for each number takes a minute
    stem = captions[0].id
    assert [one.id for one in captions[:3]] == [stem, f"{stem}-2", f"{stem}-3"]
    assert len({one.id for one in captions}) == 30_000


def test_a_text_that_is_no_caption_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("dog " * 25_001)
    with pytest.raises(UserError, match="has 100,003 characters, more than 100,000; write one"):
        read_captions(path)
