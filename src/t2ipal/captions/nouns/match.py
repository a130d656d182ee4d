"""What a rule is, and what it is given: a surface form and where it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from t2ipal.captions.nouns.sentence import Governor, Sentence


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


Objection = Callable[[Sentence, Match, Governor], str]
"""Gives the reason why the match names nothing in the picture, "" where it sees none."""


def _always(form: Form) -> bool:
    return True


class Rule(NamedTuple):
    """One way in which a class word does not name a thing in the picture.

    Attributes:
        objection: finds it.
        applies: whether it can ever object to a form.
    """

    objection: Objection
    applies: Callable[[Form], bool] = _always
