"""Things that a caption says are not there, or not there yet."""

from __future__ import annotations

from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    ADVERB,
    AUX,
    BASE,
    COMMA,
    CONJ,
    GERUND,
    NEGATION,
    NOUN,
    OPENS_PHRASE,
    PAST,
    PREP,
    STOP,
    THIRD,
    word_lists,
)
from t2ipal.captions.nouns.match import Match, Rule
from t2ipal.captions.nouns.sentence import Governor, Sentence

_WORDS = word_lists("absence")
ABSENCE_NOUNS = _WORDS["absence_nouns"]
ABSENCE_VERBS = _WORDS["absence_verbs"]
PROSPECT_VERBS = _WORDS["prospect_verbs"]
REACHING_VERBS = _WORDS["reaching_verbs"]
_BANNED = _WORDS["banned"]
_NOT_SEEN = _WORDS["not_seen"]


def _negation(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "no people", "without a car", "empty of people", "is not a dog", "dogs prohibited"."""
    if above.negated:
        return "" if _titled(sentence, match) else "negated"
    return _governed(sentence, above) or _denied_after(sentence, match)


def _governed(sentence: Sentence, above: Governor) -> str:
    """What stands above the phrase denies it."""
    if above.at < 0 or above.separate:
        return ""
    word, tag = sentence.words[above.at], sentence.tags[above.at]
    before = sentence.words[above.at - 1]
    if word == "longer" and before == "no":
        return "negated"
    if tag & NEGATION and tag & (PREP | ADVERB):
        return "" if sentence.words[above.at + 1] in ("only", "just") else "negated"
    if word in ("of", "from"):
        if before in ABSENCE_NOUNS:
            return "absent"
        if sentence.tags[above.at - 1] & NOUN and sentence.governor(above.at - 1).negated:
            return "negated"  # "no sign of people"
    if word in ABSENCE_VERBS:
        return "absent"
    if tag & (AUX | GERUND | PAST | BASE | THIRD) and sentence.negation_before(above.at):
        return "negated"
    return ""


def _denied_after(sentence: Sentence, match: Match) -> str:
    """ "dogs prohibited", "the dog is missing", "cars are not allowed"."""
    first, second = sentence.words[match.end], sentence.words[match.end + 1]
    auxiliary = sentence.tags[match.end] & AUX
    if first in _BANNED or (auxiliary and (second in _BANNED or second == "gone")):
        return "absent"
    ends = STOP | PREP | COMMA | CONJ
    if auxiliary and second == "missing" and sentence.tags[match.end + 2] & ends:
        return "absent"
    denied = "not" in (first, second) or (auxiliary and sentence.tags[match.end] & NEGATION)
    if denied and not _NOT_SEEN.isdisjoint(sentence.words[match.end : match.end + 4]):
        return "absent"
    return ""


def _titled(sentence: Sentence, match: Match) -> bool:
    """ "a no parking sign": the "no" belongs to what the sign says."""
    if match.form.phrase.split()[-1] not in ("sign", "signs", "zone"):
        return False
    for position in range(match.start - 1, max(match.start - 7, -1), -1):
        if sentence.words[position] == "no":
            opens = sentence.tags[position - 1] & (OPENS_PHRASE | STOP | ADJECTIVE)
            return position > 0 and bool(opens)
    return False


def _prospect(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "waiting for a train", "trying to catch a ball": it need not be there yet."""
    word, before = sentence.words[above.at], sentence.words[above.at - 1]
    if word == "for" and before in PROSPECT_VERBS:
        return "awaited"
    if word == "on" and before in ("wait", "waiting", "waits"):
        return "awaited"
    if word in REACHING_VERBS and before == "to":
        return "awaited"
    return ""


NEGATED = Rule(_negation)
AWAITED = Rule(_prospect)
