"""What composed captions say of a thing: adjectives, numbers and places that fit its kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from t2ipal.captions.nouns.lexicon import noun_forms
from t2ipal.captions.nouns.living import head_of


@dataclass(frozen=True)
class Scenery:
    """What fits a kind of thing; see ``scenery.yaml``.

    Attributes:
        adjectives: may stand before it.
        numbers: may count it; the likely ones come twice.
        doing: may stand behind one of it or several: "parked".
        places: names of places, as keys of :func:`wordings`.
    """

    adjectives: tuple[str, ...] = ("small", "large", "old", "new", "beautiful")
    numbers: tuple[str, ...] = ("two", "two", "three", "four", "several", "some")
    doing: tuple[str, ...] = ()
    places: tuple[str, ...] = ("neutral",)

    @classmethod
    def of(cls, *phrases: str) -> Scenery:
        """What fits the first of these noun phrases that is known: "teddy bears" are toys."""
        for phrase in phrases:
            words = phrase.lower().split()
            shorter = " ".join(words[-2:]), words[-1], head_of(phrase.lower())
            for known in (" ".join(words), *shorter):
                if known in _kinds():
                    return _kinds()[known]
        return cls()


@cache
def _file() -> dict[str, Any]:
    source = resources.files("t2ipal.captions").joinpath("scenery.yaml")
    found: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    return found


def _listed(text: str) -> tuple[str, ...]:
    parts = text.split(",") if "," in text else text.split()
    return tuple(" ".join(part.split()) for part in parts)


@cache
def wordings() -> dict[str, tuple[str, ...]]:
    """Place -> how captions write it: ``street`` -> "on a street", "in a city"."""
    return {name: _listed(text) for name, text in _file()["places"].items()}


@cache
def _kinds() -> dict[str, Scenery]:
    """Singular and plural nouns -> what fits them."""
    found: dict[str, Scenery] = {}
    for kind in _file()["kinds"].values():
        scenery = Scenery(
            adjectives=_listed(kind["adjectives"]),
            numbers=_listed(_file()["numbers"][kind["numbers"]]),
            doing=_listed(kind.get("doing", "")),
            places=_listed(kind["places"]),
        )
        for noun in (name.replace("_", " ") for name in kind["nouns"].split()):
            for form in (noun, *(form for form, _, _ in noun_forms(noun))):
                found.setdefault(form, scenery)
    return found
