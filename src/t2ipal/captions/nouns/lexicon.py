"""What the noun filter knows about English words, apart from any vocabulary.

Closed word classes (determiners, prepositions, pronouns, auxiliaries ...) are listed here; the
readings of every other word come from lemminflect's dictionary, which ships inside its package.
A word's readings are bits of an int, so that a rule is a mask and a test.
"""

from __future__ import annotations

from functools import lru_cache

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


def words(text: str) -> frozenset[str]:
    """The words of ``text`` as a set."""
    return frozenset(text.split())


_CLOSED: tuple[tuple[int, str], ...] = (
    (DET_ONE, "a an another each every one this that either"),
    (
        DET,
        "the some any these those several many few both all most much more numerous various "
        "multiple such what other others certain two's",
    ),
    (DET | NEGATION, "no neither zero"),
    (POSS, "his her its their my your our whose 's it's"),
    (
        NUMBER,
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty thirty forty fifty hundred hundreds thousand "
        "thousands dozen dozens",
    ),
    (
        PREP,
        "of in on at by with from into onto upon over under above below beneath underneath behind "
        "beside besides between among amongst amid near through throughout across along alongside "
        "around against toward towards before after during inside outside within off about for "
        "like unlike as than per via past beyond until till atop aboard opposite despite except "
        "including to",
    ),
    (PREP | NEGATION, "without minus sans"),
    (CONJ, "and or plus n &"),
    (CONJ | NEGATION, "nor"),
    (SUBJECT, "he she they we i who"),
    (SUBJECT | OBJECT, "it you everyone everybody someone somebody anyone nobody"),
    (
        OBJECT,
        "him them me us himself herself itself themselves myself yourself yourselves oneself",
    ),
    (AUX, "is are was were be been being am has have had having does do did doing 're 've"),
    (
        AUX | NEGATION,
        "isn't aren't wasn't weren't hasn't haven't hadn't doesn't don't didn't won't can't "
        "cannot couldn't wouldn't shouldn't mustn't isnt arent wasnt doesnt dont didnt cant wont",
    ),
    (MODAL, "can could will would may might must shall should let's"),
    (NEGATION | ADVERB, "not never neither hardly scarcely"),
    (
        STOP,
        ". ; : ! ? ( ) \" / while that's because but although though if when where whereas which "
        "since so yet there",
    ),
    (COMMA, ","),
    (
        ADVERB,
        "also often always sometimes usually just only even still then now here very too quite "
        "almost nearly already again together apart away back forward forwards backward backwards "
        "down up out indoors outdoors nearby overhead upside sideways upstream "
        "downstream else ever soon once twice "
        "ahead aside abroad home maybe perhaps rather really simply both "
        "next close left right front far further long well",
    ),
)

_CLOSED_BITS: dict[str, int] = {}
for _bits, _list in _CLOSED:
    for _word in _list.split():
        _CLOSED_BITS[_word] = _CLOSED_BITS.get(_word, 0) | _bits

_MISSING: dict[str, int] = {
    "": STOP,
    # Words of captions that the dictionary lacks or reads in a way captions never use.
    "frisbee": SINGULAR,
    "selfie": SINGULAR,
    "people": PLURAL,
    "ox": SINGULAR,
    "oxen": PLURAL,
    "us": OBJECT,
    "top": ADJECTIVE | SINGULAR,
    "tabletop": SINGULAR,
    "skate": SINGULAR | BASE,
    "stainless": ADJECTIVE,
    "drone": SINGULAR,
    "wifi": SINGULAR,
}


class Readings(dict[str, int]):
    """Word -> its reading bits, looked up once a word."""

    def __missing__(self, word: str) -> int:
        bits = _CLOSED_BITS.get(word)
        if bits is None:
            bits = _MISSING.get(word)
        if bits is None:
            bits = NUMBER if word.isdigit() else _dictionary(word)
        self[word] = bits
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


readings = Readings()
"""The shared table: readings depend on the word alone."""

_PLURALS: dict[str, tuple[str, ...]] = {
    # lemminflect knows neither the two irregular nouns nor that these have no plural in use.
    "person": ("people", "persons"),
    "ox": ("oxen",),
    "folk": ("folks",),
}

_ALWAYS_PLURAL = words(
    "people police cattle glasses eyeglasses sunglasses goggles scissors shears jeans pants shorts "
    "trousers binoculars pliers tongs headphones clothes stairs pajamas groceries"
)
"""Plural only: not to be singularised."""

_MANS = words("human german roman norman ottoman shaman talisman caiman cayman")
"""Not compounds of "man": their plural ends in -s."""

_UNMARKED = words("fish deer elk moose bison sheep shrimp salmon trout squid aircraft spacecraft")
"""Nouns whose plural may look like the singular."""


@lru_cache(maxsize=16384)
def noun_forms(phrase: str) -> tuple[tuple[str, bool, bool], ...]:
    """Forms of a noun phrase, each with (can be singular, can be plural).

    The head is inflected: the last word, or the word before ``of`` (``glasses of wine``). A plural
    given as the name (``boats``) yields its singular too.
    """
    parts = phrase.split()
    head = parts.index("of") - 1 if "of" in parts[1:] else len(parts) - 1
    before, word, after = parts[:head], parts[head], parts[head + 1 :]
    return tuple(
        (" ".join([*before, form, *after]), singular, plural)
        for form, singular, plural in _word_forms(word)
    )


@lru_cache(maxsize=16384)
def _word_forms(word: str) -> tuple[tuple[str, bool, bool], ...]:
    import lemminflect

    if not word.isascii():
        return ((word, True, True),)  # no English inflection
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
