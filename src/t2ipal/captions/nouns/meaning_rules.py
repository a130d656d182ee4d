"""Things that are not in the picture though their word is, and words with a second sense.

Denied or awaited things, things that are only shown, likened or named; colours, meat, measures, an
animal's kin; and activities that nobody does.
"""

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
    GERUND,
    NEGATION,
    NOUN,
    NUMBER,
    OPENS_PHRASE,
    PAST,
    PLURAL,
    PREP,
    STOP,
    SUBJECT,
    THIRD,
    UNREAL,
    UNREAL_LIVING,
    VERB,
    acts,
    living_kind,
    word_lists,
)
from t2ipal.captions.nouns.sentence import NAMING, Form, Governor, Match, Sentence
from t2ipal.captions.nouns.syntax_rules import GERUND_HEADS, PORTIONS

_ABSENCE_WORDS = word_lists("absence")
_DEPICTION_WORDS = word_lists("depictions")
_WORDS = word_lists("senses")
_BANNED = _ABSENCE_WORDS["banned"]
TINTS = _WORDS["tints"]
COLOURS = _WORDS["colours"]
KIN_WORDS = _WORDS["kin_words"]
YOUNG = _WORDS["young"]


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
        if before in _ABSENCE_WORDS["absence_nouns"]:
            return "absent"
        if sentence.tags[above.at - 1] & NOUN and sentence.governor(above.at - 1).negated:
            return "negated"  # "no sign of people"
    if word in _ABSENCE_WORDS["absence_verbs"]:
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
    if denied and not _ABSENCE_WORDS["not_seen"].isdisjoint(
        sentence.words[match.end : match.end + 4]
    ):
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
    if word == "for" and before in _ABSENCE_WORDS["prospect_verbs"]:
        return "awaited"
    if word == "on" and before in ("wait", "waiting", "waits"):
        return "awaited"
    if word in _ABSENCE_WORDS["reaching_verbs"] and before == "to":
        return "awaited"
    return ""


def _likeness(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "looks like a boat", "dressed as a cow", "bigger than a dog", "a cat named Tiger"."""
    if sentence.words[match.start - 1] == '"' == sentence.words[match.end]:
        return "quoted"
    word, before = sentence.words[above.at], sentence.words[above.at - 1]
    if word == "like":
        return "" if before in _DEPICTION_WORDS["simile_hosts"] else "a comparison"
    if word in ("unlike", "than") or word in _DEPICTION_WORDS["likeness_verbs"]:
        return "a comparison"
    if word == "as":
        equal = sentence.words[above.at - 2] == "as" and before != "well"
        return "a comparison" if before in _DEPICTION_WORDS["role_verbs"] or equal else ""
    if word == "for" and before in _DEPICTION_WORDS["ads"]:
        return "a depiction"
    if word == "about" and not sentence.tags[above.at + 1] & NUMBER:
        return "a topic"
    if word == "of" and before in _DEPICTION_WORDS["thoughts"]:
        return "a topic"
    if word in NAMING and not above.determined:
        return "a name"
    return ""


def _depiction(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "painting of a horse", "toy car", "wooden horse", "poster with a cat"."""
    if above.start < match.start and not match.form.toy:
        for position in range(max(above.start, match.start - 4), match.start):
            word = sentence.words[position]
            if word == "model" and sentence.words[position - 1] in _DEPICTION_WORDS["used"]:
                continue
            if word in UNREAL or (match.form.animate and word in UNREAL_LIVING):
                return "not a real one"
    if _depicted(sentence, above, 3):
        return "a depiction"
    if sentence.words[match.end] in ("on", "in"):
        for position in range(match.end + 1, match.end + 4):
            if sentence.words[position] in _DEPICTION_WORDS["screens"]:
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
        frames = head in _DEPICTION_WORDS["frames"] and _frames_scene(sentence, index - 1)
        return head in _DEPICTION_WORDS["depictions"] and not frames
    if word == "with" and head in _DEPICTION_WORDS["carriers"]:
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
    if sentence.words[sentence.governor(position).at] in _DEPICTION_WORDS["taking"]:
        return True
    for index in range(position - 1, -1, -1):
        word, tag = sentence.words[index], sentence.tags[index]
        if tag & STOP:
            return True
        if tag & (PREP | GERUND | SUBJECT) and word not in ("it", "in", "of"):
            return False
        if word in _DEPICTION_WORDS["hosts"]:
            return False
    return True


def _collective(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "a couple of dogs", "a couple bananas"; but "a couple walks"."""
    after = sentence.tags[match.end]
    if sentence.words[match.end] == "of" or after & (NUMBER | DET):
        return "counts what follows"
    return "counts what follows" if after & PLURAL and not after & THIRD else ""


def _colour(sentence: Sentence, match: Match, above: Governor) -> str:
    """A noun that is a colour too counts only where its surroundings show the noun."""
    phrase, end = match.form.phrase, match.end
    following, after = sentence.words[end], sentence.tags[end]
    if phrase in TINTS:
        return "a colour" if following in COLOURS else ""
    if sentence.words[match.start - 1] in _WORDS["colour_degrees"]:
        return "a colour"
    if following in PORTIONS:
        return ""
    if following in COLOURS or after & NUMBER:
        return "a colour"
    if after & (CONJ | COMMA):
        if sentence.words[end + 1] in COLOURS:
            return "a colour"  # "an orange and white cat"
    elif (
        after & ADJECTIVE
        or following in GERUND_HEADS
        or (after & NOUN and not after & (CLOSED | THIRD | GERUND))
    ):
        return "a colour"  # "an orange cat"
    if sentence.tags[match.start - 1] & NOUN and not _WORDS["painting"].isdisjoint(
        sentence.words[: match.start]
    ):
        return "a colour"  # "the sunset paints the sky orange"
    if above.determined:
        return ""
    beyond = sentence.tags[end + 1]
    modified = after & (GERUND | PAST) and beyond & NOUN and not beyond & (CLOSED | ADVERB)
    if above.at < 0 and not modified and after & (PREP | AUX | STOP | THIRD | GERUND | PAST):
        return ""  # a headline drops its articles: "Orange on a table"
    if not _WORDS["fruit_friends"].isdisjoint(sentence.words[: match.start] + sentence.words[end:]):
        return ""
    if phrase in _WORDS["mass_colours"] and sentence.tags[above.at] & (PREP | GERUND):
        return "a colour" if sentence.words[above.at] in ("in", "wearing") else ""
    return "a colour"


def _meat(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "rice with chicken", "roasted duck"; but "a chicken in a yard"."""
    if not _WORDS["cooked"].isdisjoint(sentence.words[above.start : match.start]):
        return "meat"
    alive = sentence.tags[match.end] & (GERUND | THIRD | AUX)
    return "meat" if match.form.singular and not above.determined and not alive else ""


def _kin(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "a zebra and its baby", "mother and baby elephants"; but "a baby with a dog"."""
    if match.form.phrase in YOUNG and living_kind(sentence.words[match.start - 1]) == "animal":
        return "an animal's"  # "an elephant calf" is no cow
    if match.form.phrase not in KIN_WORDS:
        return ""
    left = match.start - 1
    while sentence.tags[left] & ADJECTIVE and not sentence.tags[left] & OPENS_PHRASE:
        left -= 1
    before = sentence.words[left]
    earlier = sentence.words[: match.start][::-1]
    if before in ("its", "it's"):
        return "an animal's"
    counted = match.form.phrase in _WORDS["sexes"] and sentence.tags[match.start - 1] & NUMBER
    if (before in _WORDS["kin_links"] or counted) and _nearest_living(earlier) == "animal":
        return "an animal's"
    if sentence.words[match.end] in ("and", "with", "'s"):
        later = sentence.words[match.end + 1 : match.end + 6]
        young = KIN_WORDS | YOUNG if match.form.phrase in _WORDS["parents"] else KIN_WORDS
        if _nearest_living(later) == "animal" and not young.isdisjoint(later):
            return "an animal's"
    return ""


def _nearest_living(sequence: list[str]) -> str:
    """Kind of the first living thing in ``sequence``, kin words skipped; "" without one."""
    kinds = (living_kind(word) for word in sequence if word not in KIN_WORDS)
    return next(filter(None, kinds), "")


def _activity(sentence: Sentence, match: Match, above: Governor) -> str:
    """An activity counts when somebody does it: "children dancing", not "dancing lights"."""
    following, after = sentence.words[match.end], sentence.tags[match.end]
    noun_follows = after & NOUN and not after & (CLOSED | VERB | ADJECTIVE)
    if sentence.tags[match.end - 1] & GERUND and noun_follows:
        return "" if acts(following) else "stands before a thing"
    for position, word in enumerate(sentence.words):
        outside = position < match.start or position >= match.end
        if outside and (acts(word) or sentence.tags[position] & SUBJECT):
            return ""
    headline = match.start == 0 and (after & (CLOSED & ~NEGATION) or not following)
    return "" if headline else "nobody does it"


def _shades(form: Form) -> bool:
    return form.singular and (form.phrase in TINTS or form.phrase in _WORDS["colour_nouns"])


NEGATED = (_negation, None)
AWAITED = (_prospect, None)
LIKENESS = (_likeness, None)
DEPICTION = (_depiction, None)
COLLECTIVE = (_collective, lambda form: form.phrase in _WORDS["collectives"])
COLOUR = (_colour, _shades)
MEAT = (_meat, lambda form: form.phrase in _WORDS["food_animals"])
KIN = (_kin, lambda form: form.phrase in KIN_WORDS or form.phrase in YOUNG)
ACTIVITY = (_activity, None)
