"""Does a class word in a caption name a thing that is in the picture?

Each rule looks at one way in which it does not, and gives the reason in a word or two. The rules
are about English, not about any vocabulary or data set; :func:`verdict` asks them in turn.
"""

from __future__ import annotations

from t2ipal.captions.nouns.absence import negation, prospect
from t2ipal.captions.nouns.compounds import STANDS_BEFORE, hyphen, modifier, possessive
from t2ipal.captions.nouns.depictions import depiction, likeness
from t2ipal.captions.nouns.lexicon import BASE, MODAL, THIRD, readings
from t2ipal.captions.nouns.match import Form, Match, Rule
from t2ipal.captions.nouns.senses import (
    COLLECTIVES,
    COLOUR_NOUNS,
    FOOD_ANIMALS,
    KIN_WORDS,
    TINTS,
    YOUNG,
    activity,
    collective,
    colour,
    kin,
    meat,
)
from t2ipal.captions.nouns.sentence import Sentence, governor
from t2ipal.captions.nouns.verbs import verb

__all__ = ["STANDS_BEFORE", "Form", "Match", "Rule", "rules_for", "verdict"]


def rules_for(form: Form) -> tuple[Rule, ...]:
    """The rules that can ever object to this form, in the order in which they are asked."""
    if form.activity:
        return (activity, negation)
    phrase = form.phrase
    asked: tuple[tuple[Rule, bool], ...] = (
        (hyphen, True),
        (possessive, True),
        (collective, phrase in COLLECTIVES),
        (colour, form.singular and (phrase in TINTS or phrase in COLOUR_NOUNS)),
        (verb, " " not in phrase and bool(readings[phrase] & (BASE | THIRD | MODAL))),
        (modifier, form.singular),
        (negation, True),
        (likeness, True),
        (depiction, True),
        (prospect, True),
        (meat, phrase in FOOD_ANIMALS),
        (kin, phrase in KIN_WORDS or phrase in YOUNG),
    )
    return tuple(rule for rule, applies in asked if applies)


def verdict(sentence: Sentence, match: Match, rules: tuple[Rule, ...]) -> str:
    """Why the match names nothing in the picture; "" where it does.

    Args:
        rules: ``rules_for(match.form)``.
    """
    above = governor(sentence, match.start)
    for rule in rules:
        reason = rule(sentence, match, above)
        if reason:
            return reason
    return ""
