"""Things that are only shown, likened or named: "painting of a horse", "looks like a boat"."""

from __future__ import annotations

from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    GERUND,
    NOUN,
    NUMBER,
    OPENS_PHRASE,
    PREP,
    STOP,
    SUBJECT,
    word_lists,
)
from t2ipal.captions.nouns.living import UNREAL, UNREAL_LIVING
from t2ipal.captions.nouns.match import Match, Rule
from t2ipal.captions.nouns.sentence import NAMING, Governor, Sentence

_WORDS = word_lists("depictions")
DEPICTIONS = _WORDS["depictions"]
FRAMES = _WORDS["frames"]
TAKING = _WORDS["taking"]
HOSTS = _WORDS["hosts"]
CARRIERS = _WORDS["carriers"]
SCREENS = _WORDS["screens"]
USED = _WORDS["used"]
SIMILE_HOSTS = _WORDS["simile_hosts"]
ROLE_VERBS = _WORDS["role_verbs"]
LIKENESS_VERBS = _WORDS["likeness_verbs"]
ADS = _WORDS["ads"]
THOUGHTS = _WORDS["thoughts"]


def _likeness(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "looks like a boat", "dressed as a cow", "bigger than a dog", "a cat named Tiger"."""
    if sentence.words[match.start - 1] == '"' == sentence.words[match.end]:
        return "quoted"
    word, before = sentence.words[above.at], sentence.words[above.at - 1]
    if word == "like":
        return "" if before in SIMILE_HOSTS else "a comparison"
    if word in ("unlike", "than") or word in LIKENESS_VERBS:
        return "a comparison"
    if word == "as":
        equal = sentence.words[above.at - 2] == "as" and before != "well"
        return "a comparison" if before in ROLE_VERBS or equal else ""
    if word == "for" and before in ADS:
        return "a depiction"
    if word == "about" and not sentence.tags[above.at + 1] & NUMBER:
        return "a topic"
    if word == "of" and before in THOUGHTS:
        return "a topic"
    if word in NAMING and not above.determined:
        return "a name"
    return ""


def _depiction(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "painting of a horse", "toy car", "wooden horse", "poster with a cat"."""
    if above.start < match.start and not match.form.toy:
        for position in range(max(above.start, match.start - 4), match.start):
            word = sentence.words[position]
            if word == "model" and sentence.words[position - 1] in USED:
                continue
            if word in UNREAL or (match.form.animate and word in UNREAL_LIVING):
                return "not a real one"
    if _depicted(sentence, above, 3):
        return "a depiction"
    if sentence.words[match.end] in ("on", "in"):
        for position in range(match.end + 1, match.end + 4):
            if sentence.words[position] in SCREENS:
                return "a depiction"
            if not sentence.tags[position] & (OPENS_PHRASE | ADJECTIVE | NOUN):
                break
    return ""


def _depicted(sentence: Sentence, above: Governor, depth: int) -> bool:
    """Does the phrase hang on a depiction, directly or through what holds it?"""
    index = above.at
    if index < 1 or depth == 0:
        return False
    word, head = sentence.words[index], sentence.words[index - 1]
    if word == "of":
        frames = head in FRAMES and _frames_scene(sentence, index - 1)
        return head in DEPICTIONS and not frames
    if word == "with" and head in CARRIERS:
        return True
    # "a statue of a man on a horse", "of a man riding a horse": what holds or carries the
    # depicted thing is depicted too; what it sits on ("sitting on a bench") need not be.
    holds = word in ("with", "on") and not sentence.tags[index - 1] & GERUND
    if (holds or sentence.tags[index] & GERUND) and sentence.tags[index - 1] & NOUN:
        return _depicted(sentence, sentence.governor(index - 1), depth - 1)
    return False


def _frames_scene(sentence: Sentence, position: int) -> bool:
    """Does the "photo" at ``position`` frame the scene itself ("this is an old photo of")?

    So it does where it opens its clause, and in "taking a photo of"; a photo that hangs on
    something else in the caption ("a wall with a picture of") is a thing of its own.
    """
    if sentence.words[sentence.governor(position).at] in TAKING:
        return True
    for index in range(position - 1, -1, -1):
        word, tag = sentence.words[index], sentence.tags[index]
        if tag & STOP:
            return True
        if tag & (PREP | GERUND | SUBJECT) and word not in ("it", "in", "of"):
            return False
        if word in HOSTS:
            return False
    return True


LIKENESS = Rule(_likeness)
DEPICTION = Rule(_depiction)
