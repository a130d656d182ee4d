"""Some hundred sentences and how they are to be read (``reading.txt`` says why)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from t2ipal.captions.nouns.noun_filter import NounFilter
from t2ipal.vocabulary import Vocabulary

READING = Path(__file__).with_name("reading.txt")


@cache
def filter_of(vocabulary: str) -> NounFilter:
    if vocabulary.startswith("list:"):
        return NounFilter(Vocabulary.of(vocabulary.removeprefix("list:").split(",")))
    return NounFilter(vocabulary)


def classes(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The class names in ``text``; a name may hold a space."""
    found = []
    words = text.split()
    while words:
        size = 2 if " ".join(words[:2]) in names else 1
        name = " ".join(words[:size])
        assert name in names, f"the list of readings names no class {name!r}"
        found.append(name)
        words = words[size:]
    return tuple(sorted(found, key=names.index))


def readings() -> list[tuple[str, str, str, str]]:
    rows = []
    for line in READING.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            fields = [field.strip() for field in line.split("|")]
            rows.append((*fields, "", "")[:4])
    return rows


@pytest.mark.parametrize(("vocabulary", "caption", "labels", "unknown"), readings())
def test_reading(vocabulary: str, caption: str, labels: str, unknown: str) -> None:
    nouns = filter_of(vocabulary)
    names = nouns.vocabulary.names
    found = nouns.label(caption)
    reasons = [(item.word, item.reason) for item in nouns.explain(caption)]
    assert found.labels == classes(labels, names), reasons
    assert found.unknown == classes(unknown, names), reasons


def test_the_list_is_broad() -> None:
    rows = readings()
    assert len(rows) > 500
    assert len({caption for _, caption, _, _ in rows}) > 500
    assert sum(bool(unknown) for *_, unknown in rows) > 200
