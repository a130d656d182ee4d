"""The word lists are data: what they hold can be checked without knowing any rule."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import t2ipal.captions
from t2ipal.captions.nouns.lexicon import word_lists

CAPTIONS = Path(t2ipal.captions.__file__).parent
FILES = sorted(CAPTIONS.joinpath("nouns", "words").glob("*.yaml"))
SOURCE = "".join(path.read_text(encoding="utf-8") for path in sorted(CAPTIONS.rglob("*.py")))
TABLES = ("idioms", "particles", "readings", "solid_parts")  # read whole, whatever their keys


def test_the_lists_are_there() -> None:
    assert len(FILES) > 10
    assert "hot dog" in word_lists("idioms")["animals"]
    assert {"no", "neither"} <= word_lists("readings")["DET NEGATION"]  # text, not false


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_lists_are_lower_case_without_repetition_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    for key, value in yaml.load(text, Loader=yaml.BaseLoader).items():
        words = value.split(",") if "," in value else value.split()
        assert len(words) == len(word_lists(path.stem)[key]) > 0, key
        assert value == value.lower()
        if path.stem not in TABLES:
            before = text[: text.index(f"\n{key}:")].splitlines()[-1]
            assert before.startswith("# "), f"{path.name}: {key} says nothing of its purpose"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_list_is_used(path: Path) -> None:
    assert f'word_lists("{path.stem}")' in SOURCE
    if path.stem not in TABLES:
        unused = [key for key in word_lists(path.stem) if f'_WORDS["{key}"]' not in SOURCE]
        assert set(unused) <= {"person_nouns", "animal_nouns"}  # lexicon.py asks for both at once
