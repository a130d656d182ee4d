"""Class words read as verbs: "trains a dog", "to book", "bears down", "can swim"."""

from __future__ import annotations

from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    ADVERB,
    AUX,
    BASE,
    CLOSED,
    COMMA,
    CONJ,
    DET,
    DET_ONE,
    MODAL,
    NEGATION,
    NOUN,
    NUMBER,
    OBJECT,
    OPENS_PHRASE,
    PLURAL,
    POSS,
    SINGULAR,
    STOP,
    SUBJECT,
    THIRD,
    readings,
    word_lists,
)
from t2ipal.captions.nouns.living import acts
from t2ipal.captions.nouns.match import Form, Match, Rule
from t2ipal.captions.nouns.sentence import TO_NOUN, Governor, Sentence

_WORDS = word_lists("verbs")
PARTICLES = word_lists("particles")
MEASURES = _WORDS["measures"]
_HELPERS = _WORDS["helpers"]
_DO = _WORDS["do"]


def _verb(sentence: Sentence, match: Match, above: Governor) -> str:
    """The word is a verb where its surroundings leave no room for a noun."""
    tag = sentence.tags[match.start]
    if tag & MODAL:
        return _modal(sentence, match)
    third, base = bool(tag & THIRD), bool(tag & BASE)
    left = match.start - 1
    while sentence.tags[left] & ADVERB and not sentence.tags[left] & (NEGATION | NOUN | ADJECTIVE):
        left -= 1
    before, word_before = sentence.tags[left], sentence.words[left]
    complement = _complement_follows(sentence, match, third)

    if base:
        if word_before == "to":
            previous = sentence.words[left - 1]
            if previous not in TO_NOUN and previous != sentence.words[match.start]:
                return "an infinitive"
        if before & MODAL or word_before in _DO:
            return "a verb"
        if word_before in _HELPERS:
            return "a verb" if complement else ""
    agrees = base if word_before == "you" else third
    if before & SUBJECT and (agrees or not before & OBJECT):
        return "a verb"  # no noun follows "he", "they" or "who"
    if word_before in ("that", "which") and third:
        return "a verb"
    if before & (STOP | COMMA):
        return "a verb" if base and match.form.singular and complement else ""
    if before & CONJ:
        return "a verb" if third and complement else ""
    if before & (CLOSED & ~ADVERB) or not before & NOUN:
        return ""
    if third and before & SINGULAR:
        return _after_singular(sentence, match, left, complement)
    # "men train dogs", "planes fly": plurals do not stand in front of nouns.
    plural = before & PLURAL and not before & SINGULAR
    does = complement or not match.form.animate or not acts(word_before)
    return "a verb" if base and match.form.singular and plural and does else ""


def _complement_follows(sentence: Sentence, match: Match, third: bool) -> bool:
    """Does something follow that goes with a verb: "trains *a dog*", "bears *down*"?"""
    after, following = sentence.tags[match.end], sentence.words[match.end]
    if following in PARTICLES.get(sentence.words[match.start], ()):
        return True
    if after & ADVERB and following.endswith("ly"):
        return third
    return bool(after & (DET_ONE | DET | POSS | OBJECT)) and not after & NEGATION


def _after_singular(sentence: Sentence, match: Match, left: int, complement: bool) -> str:
    """ "the man trains" against "passenger trains": the singular noun at ``left``, then -s."""
    tags = sentence.tags
    tag, after = tags[left], sentence.tags[match.end]
    agent = acts(sentence.words[left])
    if complement and (not tag & ADJECTIVE or sentence.tags[left - 1] & OPENS_PHRASE):
        return "a verb"  # "the plane leaves the airport"
    if tag & ADJECTIVE:
        return ""
    if agent and (not match.form.animate or (after & NOUN and not after & CLOSED)):
        return "a verb"
    if not agent and after & (CONJ | STOP | COMMA):
        return ""  # "a shelf bottles and a lamp": the commas are missing
    # Agreement: after "a", a plural is no noun of the same phrase ("a man boats").
    first = left
    while sentence.tags[first - 1] & (SINGULAR | ADJECTIVE) and not tags[first - 1] & CLOSED:
        first -= 1
    measured = not MEASURES.isdisjoint(sentence.words[first : left + 1])
    if sentence.tags[first - 1] & DET_ONE and not measured and (agent or not match.form.animate):
        return "a verb"
    return ""


def _modal(sentence: Sentence, match: Match) -> str:
    """ "the dog can swim"; but "a can", "soda can on a shelf"."""
    before, after = sentence.tags[match.start - 1], sentence.tags[match.end]
    opens = DET_ONE | DET | POSS | NUMBER | ADJECTIVE
    if before & opens and not before & (SUBJECT | OBJECT):
        return ""
    following = sentence.words[match.end]
    if following == "of":
        return ""
    if after & (BASE | SUBJECT | NEGATION | ADVERB) or following in ("be", "have", "do"):
        return "a verb"
    return "" if before & NOUN and not before & AUX else "a verb"


def _reads_as_verb(form: Form) -> bool:
    return " " not in form.phrase and bool(readings[form.phrase] & (BASE | THIRD | MODAL))


VERBAL = Rule(_verb, _reads_as_verb)
