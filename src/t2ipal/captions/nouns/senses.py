"""Words with a second sense: colours, meat, measures, an animal's kin; and activities."""

from __future__ import annotations

from t2ipal.captions.nouns.compounds import GERUND_HEADS, PORTIONS
from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    ADVERB,
    AUX,
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
    VERB,
    word_lists,
)
from t2ipal.captions.nouns.living import acts, living_kind
from t2ipal.captions.nouns.match import Form, Match, Rule
from t2ipal.captions.nouns.sentence import Governor, Sentence

_WORDS = word_lists("senses")
COLLECTIVES = _WORDS["collectives"]
COLOUR_NOUNS = _WORDS["colour_nouns"]
MASS_COLOURS = _WORDS["mass_colours"]
TINTS = _WORDS["tints"]
COLOURS = _WORDS["colours"]
COLOUR_DEGREES = _WORDS["colour_degrees"]
PAINTING = _WORDS["painting"]
FRUIT_FRIENDS = _WORDS["fruit_friends"]
FOOD_ANIMALS = _WORDS["food_animals"]
COOKED = _WORDS["cooked"]
KIN_WORDS = _WORDS["kin_words"]
KIN_LINKS = _WORDS["kin_links"]
SEXES = _WORDS["sexes"]
PARENTS = _WORDS["parents"]
YOUNG = _WORDS["young"]


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
    if sentence.words[match.start - 1] in COLOUR_DEGREES:
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
    if sentence.tags[match.start - 1] & NOUN and not PAINTING.isdisjoint(
        sentence.words[: match.start]
    ):
        return "a colour"  # "the sunset paints the sky orange"
    if above.determined:
        return ""
    beyond = sentence.tags[end + 1]
    modified = after & (GERUND | PAST) and beyond & NOUN and not beyond & (CLOSED | ADVERB)
    if above.at < 0 and not modified and after & (PREP | AUX | STOP | THIRD | GERUND | PAST):
        return ""  # a headline drops its articles: "Orange on a table"
    if not FRUIT_FRIENDS.isdisjoint(sentence.words[: match.start] + sentence.words[end:]):
        return ""
    if phrase in MASS_COLOURS and sentence.tags[above.at] & (PREP | GERUND):
        return "a colour" if sentence.words[above.at] in ("in", "wearing") else ""
    return "a colour"


def _meat(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "rice with chicken", "roasted duck"; but "a chicken in a yard"."""
    if not COOKED.isdisjoint(sentence.words[above.start : match.start]):
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
    counted = match.form.phrase in SEXES and sentence.tags[match.start - 1] & NUMBER
    if (before in KIN_LINKS or counted) and _nearest_living(earlier) == "animal":
        return "an animal's"
    if sentence.words[match.end] in ("and", "with", "'s"):
        later = sentence.words[match.end + 1 : match.end + 6]
        young = KIN_WORDS | YOUNG if match.form.phrase in PARENTS else KIN_WORDS
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
    return form.singular and (form.phrase in TINTS or form.phrase in COLOUR_NOUNS)


COLLECTIVE = Rule(_collective, lambda form: form.phrase in COLLECTIVES)
COLOUR = Rule(_colour, _shades)
MEAT = Rule(_meat, lambda form: form.phrase in FOOD_ANIMALS)
KIN = Rule(_kin, lambda form: form.phrase in KIN_WORDS or form.phrase in YOUNG)
ACTIVITY = Rule(_activity)
