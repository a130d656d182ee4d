"""Captions of scenes: plurals, articles, and no class that is not in the scene."""

from __future__ import annotations

import random

import pytest

from t2ipal.miniature.scene_captions import _plural, describe, phrase
from t2ipal.miniature.world import THINGS


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("bus", "buses"),
        ("pony", "ponies"),
        ("sheep", "sheep"),
        ("woman", "women"),
        ("potted plant", "potted plants"),
        ("plant in a pot", "plants in pots"),
        ("couch", "couches"),
        ("kitty", "kitties"),
        ("dining table", "dining tables"),
    ],
)
def test_plurals(word: str, expected: str) -> None:
    assert _plural(word) == expected


def test_articles_fit_the_next_word() -> None:
    for number in range(200):
        words = phrase("aeroplane", 1, random.Random(number)).split()
        if words[0] in ("a", "an"):
            assert (words[0] == "an") == (words[1][0] in "aeiou")


def test_a_caption_names_all_its_things_and_no_other() -> None:
    forms = {t.name: {f for w in t.words for f in (w, _plural(w))} for t in THINGS}
    for number in range(200):
        rng = random.Random(number)
        names = rng.sample(sorted(forms), 2)
        text = f" {describe(names, None, rng)} ".lower().replace(".", " ").replace(",", " ")
        for name in names:
            assert any(f" {form} " in text for form in forms[name]), (name, text)
