"""Class words in front of another noun, or joined to one: "bus stop", "women's room"."""

from __future__ import annotations

from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    ADVERB,
    AUX,
    BASE,
    CLOSED,
    DET,
    DET_ONE,
    GERUND,
    MODAL,
    NOUN,
    NUMBER,
    OBJECT,
    PAST,
    POSS,
    PREP,
    SUBJECT,
    THIRD,
    word_lists,
)
from t2ipal.captions.nouns.living import living_kind
from t2ipal.captions.nouns.match import Match, Rule
from t2ipal.captions.nouns.sentence import Governor, Sentence

STANDS_BEFORE = "stands before"
"""How the reason of :data:`MODIFIER` begins."""

_WORDS = word_lists("compounds")
NEEDS_LIVING = _WORDS["needs_living"]
PORTIONS = _WORDS["portions"]
SOLID_PARTS = word_lists("solid_parts")
HEADS = _WORDS["heads"]
GERUND_HEADS = _WORDS["gerund_heads"]
NOT_HEADS = _WORDS["not_heads"]
VERBS_AFTER_THING = _WORDS["verbs_after_thing"]
VERBS_AFTER_LIVING = _WORDS["verbs_after_living"]
BARE_VERBS = _WORDS["bare_verbs"]
PERCEPTION = _WORDS["perception"]
SPORTS = _WORDS["sports"]
CARRIED = _WORDS["carried"]
STYLES = _WORDS["styles"]
PRESENCE = _WORDS["presence"]
ANTI = _WORDS["anti"]
MADE_FOR = _WORDS["made_for"]
WORN = _WORDS["worn"]


def _hyphen(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "dog-friendly", "bear-shaped", "non-person"; but "horse-drawn", "tree-lined"."""
    following = sentence.words[match.end]
    if match.end - 1 in sentence.joined:
        if following not in PRESENCE:
            return "part of a compound"
    elif following in STYLES and sentence.words[match.end + 1] not in ("like", "as", "in", "into"):
        return "only its look"  # "a bear shaped cake"; but "a cake shaped like a bear" is a cake
    if match.start - 1 in sentence.joined and sentence.words[match.start - 1] in ANTI:
        return "negated"
    return ""


def _possessive(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "women's restroom", "child's bed"; but "a man's hand", "the dog's asleep"."""
    if sentence.words[match.end] != "'s":
        return ""
    owned = match.end + 1
    telling = NEEDS_LIVING | MADE_FOR
    while sentence.tags[owned] & ADJECTIVE and sentence.words[owned] not in telling:
        owned += 1
    word, tag = sentence.words[owned], sentence.tags[owned]
    if word in MADE_FOR:
        return "made for them"
    if word in WORN and match.form.plural and not above.determined:
        return "made for them"  # "women's shoes"
    if not word or word in NEEDS_LIVING or word in WORN or not match.form.animate:
        return ""
    if tag & (CLOSED | GERUND | PAST) and not tag & NOUN:
        return ""  # "the dog's asleep", "the man's riding"
    return "owner, perhaps absent"


def _modifier(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "bus stop", "dog bowl"; but "pizza slice", "horse rider", "clock face"."""
    form = match.form
    following, tag = sentence.words[match.end], sentence.tags[match.end]
    if tag & CLOSED or following in NOT_HEADS:
        return ""
    if not tag & NOUN and following not in GERUND_HEADS:
        return ""
    if following in NEEDS_LIVING and (form.animate or following in ("rider", "riders")):
        return ""
    if following in PORTIONS and not form.animate:
        return ""
    last = form.phrase.split()[-1]
    if following in SOLID_PARTS.get(form.phrase, ()) or following in SOLID_PARTS.get(last, ()):
        return ""
    return f"{STANDS_BEFORE} {following!r}" if _is_head(sentence, match, above) else ""


def _is_head(sentence: Sentence, match: Match, above: Governor) -> bool:
    """Is the word after the match the noun that the class word modifies, or the verb it does?"""
    following, tag = sentence.words[match.end], sentence.tags[match.end]
    after = sentence.tags[match.end + 1]
    if tag & GERUND:
        # "horse racing", "a dog training class"; but "the train crossing the river"
        compound = not above.determined or (after & NOUN and not after & CLOSED)
        determiner = after & (DET_ONE | DET | POSS)
        return following in GERUND_HEADS and bool(compound and not determiner)
    if tag & (ADJECTIVE | ADVERB):
        return following in HEADS
    if match.form.animate and sentence.words[match.end + 1] in SPORTS:
        return False
    if tag & THIRD:
        return _is_plural_head(sentence, match, above)
    if tag & PAST:
        return following in HEADS
    return _is_singular_head(sentence, match, above) if tag & BASE else True


def _is_plural_head(sentence: Sentence, match: Match, above: Governor) -> bool:
    """ "train tracks" against "train stops": plural noun or third person?"""
    following, after = sentence.words[match.end], sentence.tags[match.end + 1]
    if after & AUX:
        return True
    if after & ADVERB and sentence.words[match.end + 1].endswith("ly"):
        return False
    if after & (DET_ONE | DET | POSS | OBJECT) and not after & SUBJECT:
        return False
    if sentence.tags[match.start - 1] & NUMBER:
        return True  # "two bus stops"
    if match.form.phrase in CARRIED:
        return following not in VERBS_AFTER_THING
    if match.form.animate:
        return following in HEADS and following not in VERBS_AFTER_LIVING
    if not above.determined and following in HEADS:
        return True  # "bus stops along the road"
    return following not in VERBS_AFTER_THING


def _is_singular_head(sentence: Sentence, match: Match, above: Governor) -> bool:
    """ "dog bowl" against "two giraffe stand": singular noun or bare verb?

    A singular subject never goes with a bare verb, unless something above calls for one.
    """
    form, tags = match.form, sentence.tags
    following, after = sentence.words[match.end], sentence.tags[match.end + 1]
    if after & (DET_ONE | POSS | OBJECT) and not after & AUX:
        return False
    counted = form.animate and any(tag & NUMBER for tag in tags[above.start : match.start])
    unmarked = form.plural and not sentence.tags[match.start - 1] & DET_ONE
    if counted or unmarked or "and" in sentence.words[above.at + 1 : match.start]:
        # "two giraffe stand", "sheep graze", "two buses and a taxi go"
        return following not in BARE_VERBS or (not form.animate and following in HEADS)
    if sentence.words[above.at] in PERCEPTION:
        return following in HEADS and not form.animate
    if above.determined and sentence.tags[above.start - 1] & (MODAL | AUX):
        return False
    if living_kind(form.phrase.split()[-1]) == "person" and after & PREP:
        return following in HEADS
    return True


HYPHENATED = Rule(_hyphen)
POSSESSIVE = Rule(_possessive)
MODIFIER = Rule(_modifier, lambda form: form.singular)
