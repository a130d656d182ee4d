"""A caption cut into words, and the little grammar that the noun filter needs of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from unicodedata import category

from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    ADVERB,
    AUX,
    BASE,
    CLOSED,
    COMMA,
    CONJ,
    DET,
    GERUND,
    MODAL,
    NEGATION,
    NOUN,
    NUMBER,
    OPENS_PHRASE,
    PAST,
    PLURAL,
    STOP,
    THIRD,
    VERB,
    readings,
    word_lists,
)
from t2ipal.files.names import fold

_TOKEN = re.compile(
    r"(?<![^\W_])[^\W\d_](?:\+\+|#)(?![^\W_])"  # c++
    r"|[^\W_]+(?:'(?!s\b)[^\W_]+)*"  # dog, don't, o'clock
    r"|(?<=[^\W_])'s\b"  # the 's of dog's
    r"|(?<=[^\W_])-(?=[^\W_])"  # the hyphen of double-decker
    r"|[.,;:!?()\"/&]|--|\u2013|\u2014"
)

_TIGHT_DASH = re.compile(r"(?<=\w)[\u2010-\u2013\u2212](?=\w)")

_WORDS = word_lists("sentence")
PARTITIVES = _WORDS["partitives"]
TO_NOUN = _WORDS["to_noun"]
NAMING = _WORDS["naming"]


_REACH = 64  # words to the left in which a governor is looked for


@dataclass(frozen=True)
class Form:
    """A surface form of class words: the phrase and what its shape tells.

    Attributes:
        phrase: lower case, words separated by one space.
        singular: it can be a singular noun.
        plural: it can be a plural noun ("sheep" is both).
        animate: its head is a person or an animal.
        activity: it is a form of a verb that names a class ("dancing").
        toy: the words themselves name a likeness ("teddy bear").
    """

    phrase: str
    singular: bool
    plural: bool
    animate: bool
    activity: bool = False
    toy: bool = False


class Match(NamedTuple):
    """``form`` stands at ``sentence.words[start:end]``."""

    form: Form
    start: int
    end: int


class Governor(NamedTuple):
    """What a noun phrase hangs on.

    Attributes:
        at: position of the governing word (a preposition, a verb, ...), -1 if there is none.
        start: first position of the noun phrase itself, its determiner included.
        determined: the phrase has a determiner, possessive or number.
        negated: a "no" or "neither" reaches the phrase.
        separate: the phrase is coordinated with one before it and has its own determiner
            ("without a hat and *a dog*"): negation stops there.
    """

    at: int
    start: int
    determined: bool
    negated: bool
    separate: bool


class Sentence(NamedTuple):
    """The words of a caption, lower case, punctuation included and hyphens taken out.

    The lists end in a margin of empty words that read as ``STOP``. Rules may so look a few words
    past either end: before the beginning, a negative index finds the margin too.

    Attributes:
        words: the words and punctuation marks, then the margin.
        tags: their reading bits (:mod:`t2ipal.captions.nouns.lexicon`).
        joined: positions of words that a hyphen joins to the next.
    """

    words: list[str]
    tags: list[int]
    joined: frozenset[int]

    @classmethod
    def of(cls, words: list[str], joined: frozenset[int]) -> Sentence:
        """What :func:`tokenize` gives, with the margin and the reading bits."""
        return cls(words + _MARGIN, [*map(_read, words), *_STOPS], joined)

    def governor(self, position: int) -> Governor:
        """Walk left from ``position`` (the first word of a noun) to what governs its noun phrase.

        Coordinated phrases share a governor: in "without a car or a bus" both hang on "without".
        """
        words, tags = self.words, self.tags
        open_end = position  # the leftmost word taken into the present conjunct
        start = -1
        determined = own = False
        separate = False
        negated = False
        index, end = position - 1, max(position - _REACH, 0)
        while index >= end:
            tag = tags[index]
            if tag & (CONJ | COMMA):
                if tags[index - 1] & CLOSED and not tags[index - 1] & NUMBER:
                    break  # no word that can end the conjunct before an "and"
                if start < 0:
                    start, determined = open_end, own
                if own and words[index] not in ("or", "nor"):
                    separate = True
                own = False
            elif tag & DET and tag & NEGATION:
                negated = not separate
                open_end, own = index, True
            elif tag & OPENS_PHRASE:
                open_end, own = index, True
            elif words[index] == "of" and words[index - 1] in PARTITIVES:
                own = False
            elif own or tag & (CLOSED & ~ADVERB):
                break
            elif tag & (ADVERB | NOUN | ADJECTIVE | VERB):
                if _is_verb(self, index, index + 1 == open_end):
                    break
                open_end = index
            else:
                open_end = index  # a word no dictionary knows: a name, most often
            index -= 1
        if start < 0:
            start, determined = open_end, own
        if end and index < end:
            index = -1
        return Governor(index, start, determined, negated, separate)

    def negation_before(self, index: int) -> bool:
        """Does a "not" or "without" govern the verb at ``index``: "is not wearing"?"""
        words, tags = self.words, self.tags
        for position in range(index, max(index - 5, -1), -1):
            tag = tags[position]
            if tag & NEGATION:
                return not (position + 1 < len(words) and words[position + 1] in ("only", "just"))
            if position == index:
                if not tag & (AUX | VERB | NEGATION):
                    return False
            elif not tag & (AUX | MODAL | ADVERB | VERB) or tag & STOP:
                return False
        return False


_read = readings.__getitem__
_MARGIN = [""] * 8
_STOPS = [STOP] * 8
_NO_JOINS: frozenset[int] = frozenset()


def tokenize(text: str) -> tuple[list[str], frozenset[int]]:
    """Words of ``text`` and the positions of those that a hyphen joins to the next."""
    text = fold(text)
    if text.isascii():
        # Most captions hold letters, commas and stops alone; there the pattern is not needed.
        spaced = text.replace(".", " . ").replace(",", " , ")
        words = spaced.split()
        if "".join(words).replace(".", "").replace(",", "").isalnum():
            return words, _NO_JOINS
        words = _TOKEN.findall(text)
    else:
        text = _TIGHT_DASH.sub("-", text)
        # A combining mark belongs to its word, as a letter does.
        shape = "".join("a" if category(sign)[0] == "M" else sign for sign in text)
        words = [text[found.start() : found.end()] for found in _TOKEN.finditer(shape)]
    if "-" not in text:
        return words, _NO_JOINS
    kept: list[str] = []
    joined: list[int] = []
    for word in words:
        if word == "-":
            joined.append(len(kept) - 1)
        else:
            kept.append(word)
    return kept, frozenset(joined)


Objection = Callable[[Sentence, Match, Governor], str]
"""Gives the reason why the match names nothing in the picture, "" where it sees none."""

Rule = tuple[Objection, Callable[[Form], bool] | None]
"""One way in which a class word does not name a thing in the picture: what finds it, and to which
forms it can ever object, if not to all. Rules are about English, not about any vocabulary."""


def _is_verb(sentence: Sentence, index: int, adjacent: bool) -> bool:
    """Is the open-class word at ``index`` the verb above a bare noun to its right?

    ``adjacent``: the noun phrase follows at once, not after an "and".
    """
    tags = sentence.tags
    tag = tags[index]
    if sentence.words[index] in NAMING:
        return True
    if not tag & VERB:
        return False
    before = tags[index - 1] if index else STOP
    if tag & GERUND:
        # "a sitting dog" against "a man riding horses"
        return not before & (OPENS_PHRASE | ADJECTIVE) or bool(
            before & NOUN and not before & ADJECTIVE
        )
    if tag & PAST and not tag & (NOUN | ADJECTIVE):
        # "two parked cars" against "a man parked cars"
        return not (before & (OPENS_PHRASE | ADJECTIVE | ADVERB | CONJ | STOP | COMMA))
    if tag & THIRD:
        return not tag & PLURAL or (adjacent and not before & (OPENS_PHRASE | ADJECTIVE))
    if tag & BASE and not tag & (NOUN | ADJECTIVE):
        return True
    # "people ride horses", "to ride horses"; "next to park benches" has a noun there
    if not tag & BASE:
        return False
    if index and sentence.words[index - 1] == "to":
        return index < 2 or sentence.words[index - 2] not in TO_NOUN
    return bool(before & (PLURAL | MODAL) and not before & ADJECTIVE)
