"""What the noun filter knows about English words, apart from any vocabulary.

Closed word classes (determiners, prepositions, pronouns, auxiliaries ...) are listed in
``words/readings.yaml``; the readings of every other word come from lemminflect's dictionary, which
ships inside its package. A word's readings are bits of an int, so that a rule is a mask and a test.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib import resources

import yaml

# Closed classes.
DET_ONE = 1 << 0  # a, an, another, each: the noun after it is singular
DET = 1 << 1  # the, some, these, several
POSS = 1 << 2  # his, its, 's
NUMBER = 1 << 3  # two, 14, dozen
PREP = 1 << 4
CONJ = 1 << 5  # and, or, nor, plus
SUBJECT = 1 << 6  # he, they, who
OBJECT = 1 << 7  # him, itself
AUX = 1 << 8  # is, has, does
MODAL = 1 << 9  # can, will
NEGATION = 1 << 10  # not, no, without
STOP = 1 << 11  # punctuation and words that begin a new clause
COMMA = 1 << 12
ADVERB = 1 << 13
# Open classes.
SINGULAR = 1 << 14
PLURAL = 1 << 15
BASE = 1 << 16  # ride
THIRD = 1 << 17  # rides
GERUND = 1 << 18  # riding
PAST = 1 << 19  # rode, ridden
ADJECTIVE = 1 << 20

OPENS_PHRASE = DET_ONE | DET | POSS | NUMBER
NOUN = SINGULAR | PLURAL
VERB = BASE | THIRD | GERUND | PAST
CLOSED = (1 << 14) - 1

_READINGS = {name: bits for name, bits in list(globals().items()) if name.isupper()}
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # text only: "no" and "on" are words


@cache
def word_lists(name: str) -> dict[str, frozenset[str]]:
    """The lists of ``words/<name>.yaml``, by their keys.

    A list is a text: words with blanks between them, or phrases with commas between them.
    """
    source = resources.files("t2ipal.captions.nouns").joinpath("words", f"{name}.yaml")
    lists: dict[str, str] = yaml.load(source.read_text(encoding="utf-8"), Loader=_LOADER)
    return {
        key: frozenset(map(str.strip, text.split(",")) if "," in text else text.split())
        for key, text in lists.items()
    }


class _Readings(dict[str, int]):
    """Word -> its reading bits: the listed ones, and the dictionary's, looked up once per word."""

    def __init__(self) -> None:
        super().__init__({"": STOP, ",": COMMA})
        for names, words in word_lists("readings").items():
            for word in words:
                for name in names.split():
                    self[word] = self.get(word, 0) | _READINGS[name]

    def __missing__(self, word: str) -> int:
        self[word] = bits = NUMBER if word.isdigit() else _dictionary(word)
        return bits


def _dictionary(word: str) -> int:
    import lemminflect

    bits = 0
    for category, lemmas in lemminflect.getAllLemmas(word).items():
        if category == "NOUN":
            bits |= SINGULAR if word in lemmas else PLURAL
            if word in lemmas and len(lemmas) > 1:
                bits |= PLURAL
        elif category == "ADJ":
            bits |= ADJECTIVE
        elif category == "ADV":
            bits |= ADVERB
        elif category == "VERB":
            if word in lemmas:
                bits |= BASE
            elif word.endswith("s"):
                bits |= THIRD
            elif word.endswith("ing"):
                bits |= GERUND
            else:
                bits |= PAST
    if not bits and word.endswith("ly"):
        bits = ADVERB
    return bits


readings = _Readings()
"""The shared table: readings depend on the word alone."""

_PLURALS: dict[str, tuple[str, ...]] = {
    # lemminflect knows neither the two irregular nouns nor that these have no plural in use.
    "person": ("people", "persons"),
    "ox": ("oxen",),
    "folk": ("folks",),
}

_WORDS = word_lists("lexicon")
_ALWAYS_PLURAL = _WORDS["always_plural"]
_MANS = _WORDS["mans"]
_UNMARKED = _WORDS["unmarked"]


@lru_cache(maxsize=16384)
def noun_forms(phrase: str) -> tuple[tuple[str, bool, bool], ...]:
    """Forms of a noun phrase, each with (can be singular, can be plural).

    The head is inflected: the last word, or the word before ``of`` (``glasses of wine``) or before
    a bracket. A plural given as the name (``boats``) yields its singular too.
    """
    parts = phrase.split()
    ends = (
        place for place, part in enumerate(parts) if place and (part == "of" or part[0] in "([")
    )
    head = next(ends, len(parts)) - 1
    before, word, after = parts[:head], parts[head], parts[head + 1 :]
    return tuple(
        (" ".join([*before, form, *after]), singular, plural)
        for form, singular, plural in _word_forms(word)
    )


@lru_cache(maxsize=16384)
def _word_forms(word: str) -> tuple[tuple[str, bool, bool], ...]:
    import lemminflect

    if not word.isascii():
        more = ((word + "s", False, True),) if word[-1] < "\u0250" else ()  # "cafés"
        return ((word, True, True), *more)  # no other English inflection
    if not word.isalpha():
        return ((word, True, False), (word + "s", False, True))
    base = word
    if word in _ALWAYS_PLURAL:
        return ((word, False, True),)
    if readings[word] & PLURAL and not readings[word] & SINGULAR:
        lemmas = lemminflect.getAllLemmas(word, "NOUN").get("NOUN", ())
        base = lemmas[-1] if lemmas else word
    plurals = _PLURALS.get(base)
    if plurals is None and base.endswith("man") and base not in _MANS:
        plurals = (base[:-3] + "men",)
    if plurals is None:
        plurals = lemminflect.getInflection(base, "NNS", inflect_oov=False) or (_regular(base),)
    if not plurals or plurals[0] == base or base in _UNMARKED:
        rest = [(plural, False, True) for plural in plurals if plural != base]
        return ((base, True, True), *rest)
    forms = dict.fromkeys([*plurals, word])
    forms.pop(base, None)
    return ((base, True, False), *((form, False, True) for form in forms))


def _regular(noun: str) -> str:
    """The plural of a noun that no dictionary knows, most often a new one: "selfies"."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


@lru_cache(maxsize=1024)
def verb_forms(phrase: str) -> tuple[str, ...]:
    """All forms of a verb, or of a phrase that begins with one (``run``, ``play football``)."""
    import lemminflect

    verb, *rest = phrase.split()
    forms = {verb: None}
    for tag in ("VBZ", "VBG", "VBD", "VBN"):
        for form in lemminflect.getInflection(verb, tag, inflect_oov=False):
            forms[form] = None
    return tuple(" ".join([form, *rest]) for form in forms)


# --- people and animals --------------------------------------------------------------------------

_AFTER_HEAD = re.compile(r"(?<=.) (?:of |[(\[])")
_LIVING_WORDS = word_lists("living")
ATTRIBUTIVE = _LIVING_WORDS["attributive"]
UNREAL = _LIVING_WORDS["unreal"]
UNREAL_LIVING = _LIVING_WORDS["unreal_living"]
TOYS = UNREAL | UNREAL_LIVING | _LIVING_WORDS["toys"]


@cache
def _kinds() -> dict[str, str]:
    """Words for people and animals, singular and plural, with what they are."""
    return {
        form: kind
        for kind in ("person", "animal")
        for noun in sorted(_LIVING_WORDS[f"{kind}_nouns"])
        for form, _, _ in noun_forms(noun)
    }


def living_kind(word: str) -> str:
    """ "person" or "animal" for a word that names one, "" for any other."""
    return _kinds().get(word, "")


def acts(word: str) -> bool:
    """Does a person or an animal do something when a verb form follows: "the man trains"?"""
    return word in _kinds() and word not in ATTRIBUTIVE


def head_of(phrase: str) -> str:
    """The last word, or the one before "of" or a bracket: "bow" of "bow (weapon)"."""
    return _AFTER_HEAD.split(phrase)[0].split()[-1]
