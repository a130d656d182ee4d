"""What is said of a thing fits its kind, and the file of kinds is whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from t2ipal.captions.compose import _Scenery, _scenery, _wordings, compose
from t2ipal.vocabulary import Vocabulary


def test_the_file_is_whole() -> None:
    seen: dict[str, str] = {}
    for name, kind in _scenery()["kinds"].items():
        assert kind["numbers"] in _scenery()["numbers"], name
        assert set(kind["places"].split()) <= set(_wordings()), name
        assert set(kind) <= {"nouns", "adjectives", "doing", "numbers", "places"}, name
        for noun in kind["nouns"].split():
            assert noun not in seen, f"{noun} is of {seen[noun]} and of {name}"
            seen[noun] = name
    used = {place for kind in _scenery()["kinds"].values() for place in kind["places"].split()}
    assert set(_wordings()) == used | {"neutral"}


@pytest.mark.parametrize(
    ("phrase", "like"),
    [
        ("toddlers", "child"),
        ("hot dogs", "hot dog"),
        ("teddy bears", "doll"),
        ("fire hydrants", "hydrant"),
        ("potted plant", "potted plant"),
        ("hair dryers", "hair dryer"),
        ("bottle of wine", "bottle"),
        ("wine glass", "goblet"),
        ("mice", "keyboard"),
    ],
)
def test_nouns_find_their_kind(phrase: str, like: str) -> None:
    assert _Scenery.of(phrase) == _Scenery.of(like) != _Scenery()


def test_synonyms_take_after_their_class() -> None:
    assert _Scenery.of("pooch") == _Scenery()
    assert _Scenery.of("pooch", "dog") == _Scenery.of("dog")


def test_most_classes_of_the_benchmarks_have_a_kind() -> None:
    for name, share in (("voc2007", 1.0), ("coco2014", 1.0), ("nuswide", 0.7)):
        names = Vocabulary.load(name).readable
        known = sum(_Scenery.of(one) != _Scenery() for one in names)
        assert known >= share * len(names), name


def test_the_sample_in_the_pages_is_what_is_composed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "composed-captions.md").read_text("utf-8")
    shown = page.split("```text\n")[1].split("```")[0].splitlines()
    assert shown == [caption.text for caption in compose(Vocabulary.load("coco2014"), 100)]


def test_captions_say_what_fits() -> None:
    """No old toddlers, no green sandwiches, no elephants in a kitchen."""
    texts = [caption.text.lower() for caption in compose(Vocabulary.load("coco2014"), 1500)]
    for text in texts:
        assert not re.search(r"\b(old|many|large) (toddler|child|kid|boy|girl)", text), text
        assert not re.search(r"\b(green|blue|old) (sandwich|pizza|cake|donut|hot dog)", text), text
        if re.search(r"elephant|giraffe|zebra", text):
            assert not text.endswith(("in a kitchen.", "on a desk.", "on a table.", "on a plate."))
