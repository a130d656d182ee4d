"""Spellings of one name."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2ipal.files.names import from_readable, name_key, portable_path, readable_name


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


@given(st.binary(min_size=1, max_size=20).filter(lambda name: b"\\" not in name))
def test_a_name_of_any_bytes_is_one_line_and_found_again(name: bytes) -> None:
    text = readable_name(os.fsdecode(name))
    text.encode()
    assert len(text.splitlines()) == 1
    assert os.fsencode(from_readable(text)) == name
