"""Names that are to become classes, checked against those that there are. Loads no PyTorch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from t2ipal.errors import UserError
from t2ipal.files.names import name_key
from t2ipal.vocabulary import ClassName, Vocabulary


def queried(texts: Iterable[str]) -> list[ClassName]:
    """Free texts as classes; an article is no part of what prompts say.

    Examples:
        >>> queried(["a red bicycle"])[0].readable
        'red bicycle'
    """
    return [ClassName(text, re.sub("^(?:an?|the) (?=.)", "", text, flags=re.I)) for text in texts]


def with_new(vocabulary: Vocabulary, classes: Iterable[ClassName]) -> Vocabulary:
    """The vocabulary and further classes.

    Raises:
        UserError: a name or synonym of one names a class that is there, in some spelling.
    """
    for one in classes:
        known: dict[str, str] = {}
        for there in vocabulary.classes:
            for word in (*there.phrases, *there.ambiguous, there.readable):
                known.setdefault(name_key(word), there.name)
        for word in (one.name, one.readable, *one.synonyms):
            if found := known.keys() & _numbers(name_key(word)):
                raise UserError(
                    f"{word!r} names the class {known[found.pop()]!r} already; leave it out, or "
                    "choose another word."
                )
        vocabulary = Vocabulary(vocabulary.title, (*vocabulary.classes, one))
    return vocabulary


def _numbers(key: str) -> set[str]:
    """A word, and what may be its singular or plural: loading a dictionary would take seconds."""
    singular = re.sub("ies$", "y", key), re.sub("es$", "", key), re.sub("s$", "", key)
    return {key, *singular, re.sub("y$", "ies", key), f"{key}es", f"{key}s"}
