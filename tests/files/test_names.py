"""Spellings of one name."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2ipal.files.names import name_key, portable_path


@pytest.mark.parametrize(
    "spelling",
    ["dining table", "Dining_Table", "dining-table ", "  DINING  table", "din\u00ading table",
     "dining\u200b table", "\uff44ining table", "dining\u00a0table", "dining\u2011table"],
)  # fmt: skip
def test_spellings_of_one_name(spelling: str) -> None:
    assert name_key(spelling) == "dining table"


@given(st.text())
def test_composed_and_decomposed_letters_are_one(text: str) -> None:
    assert name_key(unicodedata.normalize("NFD", text)) == name_key(text)


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    assert name_key(name_key(text)) == name_key(text)


def test_other_names_stay_apart() -> None:
    assert (
        len({name_key(name) for name in ("c", "c++", "c#", "cat/dog", "cat", "狗", "bügel")}) == 7
    )


@pytest.mark.parametrize(
    "text", ["a/b.jpg", "a\\b.jpg", " a/b.jpg ", "a\\/b.jpg"],
)  # fmt: skip
def test_paths_of_any_system(text: str) -> None:
    assert portable_path(text).as_posix() == "a/b.jpg"
