"""The packaged CLIP that knows photos, ``--clip photo``: its folder, and the words it has met."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from t2ipal.errors import UserError

MODEL = Path(__file__).parent / "models" / "photo"
_WORDS = MODEL / "words.txt"


def path() -> Path:
    """The folder of the packaged model, in open_clip's format.

    Raises:
        UserError: the installed package lacks it.
    """
    if not (MODEL / "open_clip_model.safetensors").is_file():
        raise UserError(
            f"{MODEL}: the packaged photo CLIP is missing; install t2ipal again, or make it with "
            "the scripts in tools/photo_clip."
        )
    return MODEL


def unmet(names: Sequence[str]) -> list[str]:
    """The class names that no picture of the training named: neither the name nor its last word.

    The model reads other words too, through the sentence embeddings its text tower was distilled
    from, but what it finds for them is a guess.
    """
    met = _met_words()
    return [name for name in names if not any(form in met for form in _forms(name))]


@cache
def _met_words() -> frozenset[str]:
    return frozenset(_WORDS.read_text(encoding="utf-8").splitlines())


def _forms(name: str) -> list[str]:
    """The name and its last word, as written and without a plural's ending."""
    name = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
    forms = []
    for phrase in (name, name.rpartition(" ")[2]):
        forms.append(phrase)
        for ending, singular in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
            if phrase.endswith(ending):
                forms.append(phrase.removesuffix(ending) + singular)
    return forms
