"""Words for people and animals, and which of them can do something."""

from __future__ import annotations

import re
from functools import cache

from t2ipal.captions.nouns.lexicon import noun_forms, word_lists

_AFTER_HEAD = re.compile(r"(?<=.) (?:of |[(\[])")
_WORDS = word_lists("living")
ATTRIBUTIVE = _WORDS["attributive"]
UNREAL = _WORDS["unreal"]
UNREAL_LIVING = _WORDS["unreal_living"]
TOYS = UNREAL | UNREAL_LIVING | _WORDS["toys"]


@cache
def _kinds() -> dict[str, str]:
    """Words for people and animals, singular and plural, with what they are."""
    return {
        form: kind
        for kind in ("person", "animal")
        for noun in sorted(_WORDS[f"{kind}_nouns"])
        for form, _, _ in noun_forms(noun)
    }


def living_kind(word: str) -> str:
    """ "person" or "animal" for a word that names one, "" for any other."""
    return _kinds().get(word, "")


def acts(word: str) -> bool:
    """Does a person or an animal do something when a verb form follows: "the man trains"?"""
    return word in _kinds() and word not in ATTRIBUTIVE


def head_of(phrase: str) -> str:
    """The last word, or the one before "of" or a bracket: "bow" of "bow (weapon)"."""
    return _AFTER_HEAD.split(phrase)[0].split()[-1]
