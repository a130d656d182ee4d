"""Class words that are no noun of their own: in front of another noun, joined to one, or verbs.

"bus stop", "women's room", "dog-friendly"; "trains a dog", "to book", "bears down", "can swim".
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
    DET_ONE,
    GERUND,
    MODAL,
    NEGATION,
    NOUN,
    NUMBER,
    OBJECT,
    OPENS_PHRASE,
    PAST,
    PLURAL,
    POSS,
    PREP,
    SINGULAR,
    STOP,
    SUBJECT,
    THIRD,
    acts,
    living_kind,
    readings,
    word_lists,
)
from t2ipal.captions.nouns.sentence import TO_NOUN, Form, Governor, Match, Sentence

STANDS_BEFORE = "stands before"
"""How the reason of :data:`MODIFIER` begins."""

_WORDS, _VERB_WORDS = word_lists("compounds"), word_lists("verbs")
PORTIONS = _WORDS["portions"]
GERUND_HEADS = _WORDS["gerund_heads"]
NEEDS_LIVING = _WORDS["needs_living"]
HEADS = _WORDS["heads"]
VERBS_AFTER_THING = _WORDS["verbs_after_thing"]
MADE_FOR = _WORDS["made_for"]
WORN = _WORDS["worn"]
_SOLID_PARTS = word_lists("solid_parts")
_PARTICLES = word_lists("particles")


def _hyphen(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "dog-friendly", "bear-shaped", "non-person"; but "horse-drawn", "tree-lined"."""
    following = sentence.words[match.end]
    if match.end - 1 in sentence.joined:
        if following not in _WORDS["presence"]:
            return "part of a compound"
    elif following in _WORDS["styles"] and sentence.words[match.end + 1] not in (
        "like",
        "as",
        "in",
        "into",
    ):
        return "only its look"  # "a bear shaped cake"; but "a cake shaped like a bear" is a cake
    if match.start - 1 in sentence.joined and sentence.words[match.start - 1] in _WORDS["anti"]:
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
    if tag & CLOSED or following in _WORDS["not_heads"]:
        return ""
    if not tag & NOUN and following not in GERUND_HEADS:
        return ""
    if following in NEEDS_LIVING and (form.animate or following in ("rider", "riders")):
        return ""
    if following in PORTIONS and not form.animate:
        return ""
    last = form.phrase.split()[-1]
    if following in _SOLID_PARTS.get(form.phrase, ()) or following in _SOLID_PARTS.get(last, ()):
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
    if match.form.animate and sentence.words[match.end + 1] in _WORDS["sports"]:
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
    if match.form.phrase in _WORDS["carried"]:
        return following not in VERBS_AFTER_THING
    if match.form.animate:
        return following in HEADS and following not in _WORDS["verbs_after_living"]
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
        return following not in _WORDS["bare_verbs"] or (not form.animate and following in HEADS)
    if sentence.words[above.at] in _WORDS["perception"]:
        return following in HEADS and not form.animate
    if above.determined and sentence.tags[above.start - 1] & (MODAL | AUX):
        return False
    if living_kind(form.phrase.split()[-1]) == "person" and after & PREP:
        return following in HEADS
    return True


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
        if before & MODAL or word_before in _VERB_WORDS["do"]:
            return "a verb"
        if word_before in _VERB_WORDS["helpers"]:
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
    if following in _PARTICLES.get(sentence.words[match.start], ()):
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
    measured = not _VERB_WORDS["measures"].isdisjoint(sentence.words[first : left + 1])
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


HYPHENATED = (_hyphen, None)
POSSESSIVE = (_possessive, None)
MODIFIER = (_modifier, lambda form: form.singular)
VERBAL = (_verb, _reads_as_verb)
