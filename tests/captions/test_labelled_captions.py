"""Labelled captions: the call, the file, the summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2ipal.captions.labelled import (
    LabelledCaption,
    LabelSummary,
    label_captions,
    label_each,
    read_labelled,
)
from t2ipal.captions.sources import Caption
from t2ipal.errors import UserError
from t2ipal.files import write_jsonl
from t2ipal.vocabulary import Vocabulary

TEXTS = [
    "A man trains a dog.",
    "Sunset over the hills",
    "Two cats on a sofa",
    "An empty bus stop",
    "A dog and a cat",
]


def test_all_captions_are_kept_in_order() -> None:
    rows = label_captions(TEXTS, "voc2007")
    assert [row.id for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row.caption for row in rows] == TEXTS
    assert [row.labels for row in rows] == [
        ("dog", "person"),
        (),
        ("cat", "sofa"),
        (),
        ("cat", "dog"),
    ]
    assert [row.unknown for row in rows] == [("train",), (), (), ("bus",), ()]
    assert rows[0].matches == {"dog": "dog", "person": "man", "train": "trains"}


def test_classes_come_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text("- dog\n- cat\n")
    forms = (path, str(path), ["dog", "cat"], ("dog", "cat"), Vocabulary.of(["dog", "cat"]))
    for classes in forms:
        assert label_captions(["a dog"], classes)[0].labels == ("dog",)
    assert label_captions(iter([Caption("x", "a cat")]), ["cat"])[0].id == "x"


def test_wrong_calls() -> None:
    with pytest.raises(UserError, match="one text"):
        label_captions("a dog", "voc2007")
    with pytest.raises(UserError, match="id 'a'"):
        label_captions([Caption("a", "x"), Caption("a", "y")], "voc2007")
    with pytest.raises(UserError, match="expected text"):
        label_captions([5], "voc2007")  # type: ignore[list-item]
    with pytest.raises(UserError, match="no vocabulary"):
        label_captions(["a dog"], "voc")


def test_file_holds_exactly_the_five_keys_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out" / "captions.jsonl"
    rows = label_captions([*TEXTS, "Ein Hund \u2014 \u72d7"], "voc2007")
    write_jsonl(path, rows)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert list(lines[0]) == ["id", "caption", "labels", "unknown", "matches"]
    assert lines[0] == {
        "id": "1",
        "caption": "A man trains a dog.",
        "labels": ["dog", "person"],
        "unknown": ["train"],
        "matches": {"dog": "dog", "person": "man", "train": "trains"},
    }
    assert read_labelled(path) == rows
    again = tmp_path / "again.jsonl"
    write_jsonl(again, read_labelled(path))
    assert again.read_bytes() == path.read_bytes()


ROW = {"id": "1", "caption": "a", "labels": ["dog"], "unknown": [], "matches": {"dog": "a"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 1}, "'id' must be text"),
        ({"caption": ""}, "'caption' must be text"),
        ({"labels": "dog"}, "'labels' must be a list"),
        ({"labels": ["dog", "dog"]}, "names a class twice"),
        ({"unknown": [1]}, "an entry of 'unknown' must be text"),
        ({"unknown": ["dog"]}, "both a label and unknown"),
        ({"matches": ["dog"]}, "'matches' must be a mapping"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"matches": {"dog": 1}}, "'dog' must be text"),
    ],
)
def test_broken_rows(change: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(ROW | {"id": "0"}) + "\n" + json.dumps(ROW | change) + "\n")
    with pytest.raises(UserError, match=message) as caught:
        read_labelled(path)
    assert f"{path}:2" in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("")
    with pytest.raises(UserError, match="holds no captions"):
        read_labelled(path)
    path.write_text('{"id": "1", "caption": "a"}\n')
    with pytest.raises(UserError, match=":1: 'labels' is missing"):
        read_labelled(path)
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW) + "\n")
    with pytest.raises(UserError, match=":2: the id '1' stands on line 1"):
        read_labelled(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_labelled(tmp_path / "missing.jsonl")


def test_summary() -> None:
    vocabulary = Vocabulary.load("voc2007")
    rows = label_captions(TEXTS, vocabulary)
    summary = LabelSummary.of(rows, vocabulary)
    assert (summary.captions, summary.unlabelled, summary.doubtful) == (5, 2, 2)
    assert summary.counts["dog"] == 2 and summary.counts["sofa"] == 1
    assert summary.unknown["train"] == 1 and summary.unknown["bus"] == 1
    assert summary.words["cat"] == ("cat", "cats")
    assert len(summary.without_caption) == 16 and "bus" in summary.without_caption
    assert list(summary.counts) == list(vocabulary.names)

    lines = summary.lines()
    assert lines[0] == ("5 captions: 3 name a class, 2 name none, 2 leave some class unknown")
    assert sum(line.split()[:2] == ["dog", "2"] for line in lines) == 1
    assert "  A man trains a dog. -> dog, person; unknown: train" in lines
    assert lines[-1].startswith("warning: no caption names 16 of 20 classes: 'aeroplane', 'bicy")


def test_summary_without_gaps_has_no_warning() -> None:
    vocabulary = Vocabulary.of(["dog", "cat"])
    summary = LabelSummary.of(label_captions(["a dog and a cat"], vocabulary), vocabulary)
    assert summary.without_caption == ()
    assert not any("warning" in line for line in summary.lines())


def test_summary_of_another_vocabulary_is_refused() -> None:
    row = LabelledCaption("1", "a fox", ("fox",), (), {"fox": "fox"})
    with pytest.raises(UserError, match="no class 'fox'"):
        LabelSummary.of([row], Vocabulary.of(["dog"]))


def test_labelling_does_not_depend_on_company_or_order() -> None:
    forward = label_captions(TEXTS, "coco2014")
    backward = label_captions(TEXTS[::-1], "coco2014")[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert (one.labels, one.unknown, one.matches) == (
            other.labels,
            other.unknown,
            other.matches,
        )


def test_a_summary_keeps_a_few_rows_spread_over_all_and_reads_them_once() -> None:
    vocabulary = Vocabulary.of(["dog", "cat"])
    texts = ["a dog"] * 5000 + ["a tree"] * 100 + ["a cat"] * 700
    captions = (Caption(str(number), text) for number, text in enumerate(texts))
    found = LabelSummary.of(label_each(captions, vocabulary), vocabulary)
    assert (found.captions, found.unlabelled, found.counts) == (
        5800,
        100,
        {"dog": 5000, "cat": 700},
    )
    assert [row.labels for row in found.examples] == [("dog",), ("cat",)]
