"""Captions from class names alone, for users who have none.

A caption joins noun phrases ("three ducks", "an old sofa") to a scene. Every phrase and every
finished caption is read by the noun filter, and one that it would read as anything but the classes
meant is worded differently: a composed caption is labelled with exactly its classes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import yaml

from t2ipal.captions.nouns.lexicon import (
    GERUND,
    NOUN,
    head_of,
    noun_forms,
    readings,
    verb_forms,
    word_lists,
)
from t2ipal.captions.nouns.noun_filter import NounFilter
from t2ipal.captions.sources import Caption
from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.vocabulary import ClassName, Vocabulary

SIZES = (1, 2, 3, 4)
SIZE_WEIGHTS = (30, 35, 22, 13)
"""How many classes a caption names, and how often (in percent)."""

SYNONYMS = 6
"""The first synonyms of a class are its common ones; only these are written."""

ATTEMPTS = 40
"""Wordings tried for a caption before the plainest one."""

_TOGETHER = 0.8  # how often a further class is one that is found where the first ones are
_EVERYWHERE = {"weather", "neutral"}

_WORDS = word_lists("composing")
_MASS = _WORDS["mass"]
_UNIQUE = _WORDS["unique"]
_SINGLE = _WORDS["single"]
_VOWEL_SOUND = _WORDS["vowel_sound"]
_CONSONANT_SOUND = ("uni", "eu", "ewe", "one", "once", "use", "usu", "ufo", "ukulele", "uten")


def compose(vocabulary: Vocabulary, n: int, *, seed: int = 0) -> list[Caption]:
    """``n`` varied captions that name the classes evenly, one to four at a time.

    The same vocabulary and seed give the same captions, and with a larger ``n`` more of them. Ids
    come from the text.

    Raises:
        UserError: ``n`` is less than 1, or a class's name cannot be written so that the noun filter
            reads it as the class.

    Examples:
        >>> for caption in compose(Vocabulary.of(["corgi", "espresso"]), 2, seed=6):
        ...     print(caption.text)
        There are two espressos on a plain background.
        There are two black corgis in the rain.
    """
    return [caption for caption, _ in _compose_with_classes(vocabulary, n, seed)]


def _compose_with_classes(
    vocabulary: Vocabulary, n: int, seed: int
) -> Iterator[tuple[Caption, tuple[str, ...]]]:
    """As :func:`compose`, with the classes each caption was written for.

    Where concepts overlap ("dog" and "animal"), a caption's classes are all that its words name.
    """
    if n < 1:
        raise UserError(f"the number of captions to compose must be at least 1, not {n}.")
    writer, rng = Writer(vocabulary), random.Random(f"write {seed}")
    for classes in writer.deal(n, seed):
        text, named = writer.write(classes, rng)
        yield writer.caption(text), named


@dataclass(frozen=True)
class _Scenery:
    """What fits a kind of thing; see ``scenery.yaml``.

    Attributes:
        adjectives: may stand before it.
        numbers: may count it; the likely ones come twice.
        doing: may stand behind one of it or several: "parked".
        places: names of places, as keys of :func:`_wordings`.
    """

    adjectives: tuple[str, ...] = ("small", "large", "old", "new", "beautiful")
    numbers: tuple[str, ...] = ("two", "two", "three", "four", "several", "some")
    doing: tuple[str, ...] = ()
    places: tuple[str, ...] = ("neutral",)

    @classmethod
    def of(cls, *phrases: str) -> _Scenery:
        """What fits the first of these noun phrases that is known: "teddy bears" are toys."""
        for phrase in phrases:
            words = phrase.lower().split()
            shorter = " ".join(words[-2:]), words[-1], head_of(phrase.lower())
            for known in (" ".join(words), *shorter):
                if known in _kinds():
                    return _kinds()[known]
        return cls()


@cache
def _scenery() -> dict[str, Any]:
    source = resources.files("t2ipal.captions").joinpath("scenery.yaml")
    found: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    return found


def _listed(text: str) -> tuple[str, ...]:
    parts = text.split(",") if "," in text else text.split()
    return tuple(" ".join(part.split()) for part in parts)


@cache
def _wordings() -> dict[str, tuple[str, ...]]:
    """Place -> how captions write it: ``street`` -> "on a street", "in a city"."""
    return {name: _listed(text) for name, text in _scenery()["places"].items()}


@cache
def _kinds() -> dict[str, _Scenery]:
    """Singular and plural nouns -> what fits them."""
    found: dict[str, _Scenery] = {}
    for kind in _scenery()["kinds"].values():
        scenery = _Scenery(
            adjectives=_listed(kind["adjectives"]),
            numbers=_listed(_scenery()["numbers"][kind["numbers"]]),
            doing=_listed(kind.get("doing", "")),
            places=_listed(kind["places"]),
        )
        for noun in (name.replace("_", " ") for name in kind["nouns"].split()):
            for form in (noun, *(form for form, _, _ in noun_forms(noun))):
                found.setdefault(form, scenery)
    return found


@dataclass(frozen=True)
class _Noun:
    """A noun to write: how it takes an article ("one", "many", "mass", "the" or "alone")."""

    form: str
    kind: str
    readable: bool

    @property
    def phrase(self) -> str:
        """The plainest noun phrase with it."""
        if self.kind == "many":
            return f"some {self.form}"
        if self.kind == "the":
            return f"the {self.form}"
        return self.form if self.kind == "mass" else _with_article(self.form)


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase as written, whether verbs after it are plural, and what fits its noun."""

    text: str
    plural: bool
    scenery: _Scenery


class Writer:
    """Writes captions for chosen classes and checks them with the noun filter."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.filter = NounFilter(vocabulary)
        self._silence: dict[str, bool] = {}
        self._copies: Counter[str] = Counter()

    @cached_property
    def nouns(self) -> list[list[_Noun]]:
        """The nouns of each class that the filter reads as the class, readable name first."""
        return [self._nouns(position) for position in range(len(self.vocabulary))]

    def write(self, classes: list[int], rng: random.Random) -> tuple[str, tuple[str, ...]]:
        """A caption for these classes, and all classes that it names."""
        for attempt in range(ATTEMPTS + 1):
            plain = attempt == ATTEMPTS
            phrases = [self._phrase(position, rng, plain, len(classes)) for position in classes]
            read = [self.filter.label(phrase.text) for phrase in phrases]
            named = {name for found in read for name in found.labels}
            doubtful = {name for found in read for name in found.unknown}
            text = self._sentence(phrases, rng, plain)
            found = self.filter.label(text)
            if doubtful.issuperset(found.unknown) and set(found.labels) == named:
                return text, found.labels
        names = ", ".join(repr(self.vocabulary.names[position]) for position in classes)
        raise UserError(
            f"no caption can be composed for {names}: their words change each other's meaning; "
            "give captions of your own, or other readable names."
        )

    def deal(self, n: int, seed: int) -> list[list[int]]:
        """Class positions for each of ``n`` captions, from a shuffled deck dealt again and again.

        No class is dealt a second time before all have been dealt once, and so on: their numbers
        differ by one at most, apart from the one or two that a caption cannot hold twice. In most
        captions, classes stand together that are found in the same places.
        """
        rng = random.Random(f"deal {seed}")
        classes = len(self.vocabulary)
        places = [set(_Scenery.of(name).places) - _EVERYWHERE for name in self.vocabulary.readable]
        sizes = [size for size in SIZES if size <= classes]
        weights = SIZE_WEIGHTS[: len(sizes)]
        deck: list[int] = []
        hands = []
        for _ in range(n):
            hand: list[int] = []
            for _ in range(rng.choices(sizes, weights)[0]):
                if all(card in hand for card in deck):
                    fresh = list(range(classes))
                    rng.shuffle(fresh)
                    deck.extend(fresh)
                left = [card for card in deck if card not in hand]
                shared = set.intersection(*(places[card] for card in hand)) if hand else set()
                fitting = [card for card in left if places[card] & shared]
                choice = fitting if fitting and rng.random() < _TOGETHER else left
                deck.remove(choice[0])
                hand.append(choice[0])
            hands.append(hand)
        return hands

    def caption(self, text: str) -> Caption:
        """A caption whose id comes from its text, and from how often this writer had it before."""
        self._copies[text] += 1
        copy = "" if self._copies[text] == 1 else f"-{self._copies[text]}"
        return Caption(sha256_text("caption", text)[:12] + copy, text)

    def implied(self, classes: Sequence[int]) -> set[str]:
        """These classes, and those that their names say too: who says dog says animal."""
        named = {self.vocabulary.names[position] for position in classes}
        for position in classes:
            for noun in self.nouns[position][:1]:
                named.update(self.filter.label(noun.phrase).labels)
        return named

    def _sentence(self, phrases: list[_Phrase], rng: random.Random, plain: bool) -> str:
        first, last = phrases[0], phrases[-1]
        place = self._place(phrases, rng)
        if len(phrases) == 1:
            template = "a photo of {a}" if plain else rng.choice(_scenery()["templates"]["one"])
        elif len(phrases) == 2:
            template = "{a} and {b}" if plain else rng.choice(_scenery()["templates"]["two"])
        else:
            template = "{list} and {last}" if plain else rng.choice(_scenery()["templates"]["more"])
        listed = [phrase.text for phrase in phrases]
        if "{last}" in template:
            listed.pop()
        joined = ", ".join(listed)
        if len(listed) > 1 and " and {last}" not in template:
            joined = ", ".join(listed[:-1]) + " and " + listed[-1]
        be = "are" if first.plural else "is"
        text = template.format(
            a=first.text, b=last.text, list=joined, last=last.text, place=place, be=be
        )
        text = " ".join(text.split())
        return text[0].upper() + text[1:] + "."

    def _place(self, phrases: list[_Phrase], rng: random.Random) -> str:
        """A place where all of these may be, or one that says little; none may name a class."""
        shared = set.intersection(*(set(phrase.scenery.places) for phrase in phrases))
        places = [place for place in phrases[0].scenery.places if place in shared] or ["neutral"]
        chosen = rng.choice(places)
        options = [wording for wording in _wordings()[chosen] if self._silent(wording)]
        return rng.choice(options) if options else ""

    def _phrase(self, position: int, rng: random.Random, plain: bool, together: int) -> _Phrase:
        """ "a dog", "three old ducks", "some snow", "people dancing", alone "a cow grazing"."""
        item = self.vocabulary.classes[position]
        nouns = self.nouns[position]
        if not nouns or (item.verbs and rng.random() < 0.5):
            deed = self._deed(position, rng, nouns)
            return _Phrase(deed, deed.startswith("people "), _Scenery.of(deed.split()[0]))
        readable = [noun for noun in nouns if noun.readable]
        # The readable name as often as all synonyms together.
        noun = (
            nouns[0]
            if plain
            else rng.choice(readable if readable and rng.random() < 0.5 else nouns)
        )
        scenery = _Scenery.of(noun.form, item.readable)
        adjectives = [word for word in scenery.adjectives if self._silent(word)]
        adjective = ""
        if not plain and adjectives and noun.kind in ("one", "many") and rng.random() < 0.35:
            adjective = rng.choice(adjectives) + " "
        text = noun.phrase
        if noun.kind == "many":
            text = f"{rng.choice(scenery.numbers)} {adjective}{noun.form}"
        elif noun.kind == "one":
            text = _with_article(adjective + noun.form)
        elif noun.kind == "mass":
            text = rng.choice(["some ", ""]) + noun.form
        if together == 1 and not plain and scenery.doing and rng.random() < 0.3:
            text += f" {rng.choice(scenery.doing)}"
        text = text if self._names(text, position) else noun.phrase
        return _Phrase(text, noun.kind == "many", scenery)

    def _deed(self, position: int, rng: random.Random, nouns: list[_Noun]) -> str:
        """A class that verbs name: "people dancing"."""
        verbs = self.vocabulary.classes[position].verbs
        gerunds = [form for verb in verbs for form in verb_forms(verb) if _is_gerund(form)]
        options = [f"{who} {form}" for who in ("people", "a person") for form in gerunds]
        options = [option for option in options if self._names(option, position)]
        options = options or [noun.phrase for noun in nouns]
        if not options:
            name = self.vocabulary.names[position]
            raise UserError(
                f"class {name!r} cannot be composed: the noun filter reads none of its names as "
                "the class; give it another readable name or synonyms."
            )
        return rng.choice(options)

    def _nouns(self, position: int) -> list[_Noun]:
        item = self.vocabulary.classes[position]
        kept: list[_Noun] = []
        shared: list[_Noun] = []
        spelled: set[str] = set()
        names = _names(item)
        for phrase in dict.fromkeys((*names, *item.synonyms[:SYNONYMS])):
            known = all(readings[word] for word in phrase.lower().split())
            last = head_of(phrase).lower()
            deed = bool(readings[last] & GERUND) and (bool(item.verbs) or not readings[last] & NOUN)
            if phrase not in names and (deed or not known):
                continue  # "skiing" for skis; misspellings
            if " in " in phrase and phrase not in names:
                continue  # "plant in a pot", whose plural is another word's
            if phrase.replace(" ", "") in spelled:
                continue  # "key board" beside "keyboard"
            spelled.add(phrase.replace(" ", ""))
            forms = noun_forms(phrase)
            singular = [form for form, one, _ in forms if one][:1]
            plural = [form for form, one, many in forms if not one or (many and form != phrase)][:1]
            options = [_Noun(form, _kind(form), phrase == item.readable) for form in singular]
            if not options or options[0].kind == "one":
                options += [_Noun(form, "many", phrase == item.readable) for form in plural]
            kept += [noun for noun in options if self._names(noun.phrase, position)]
            shared += [noun for noun in options if self._names(noun.phrase, position, shared=True)]
        kept = kept or shared  # a word that leaves a class of the same word unknown
        if item.verbs:
            kept = [noun for noun in kept if not _is_gerund(noun.form)]
        return kept

    def _names(self, phrase: str, position: int, *, shared: bool = False) -> bool:
        found = self.filter.label(phrase)
        return self.vocabulary.names[position] in found.labels and (shared or not found.unknown)

    def _silent(self, phrase: str) -> bool:
        """Whether a phrase names no class of this vocabulary."""
        if phrase not in self._silence:
            found = self.filter.label(phrase)
            self._silence[phrase] = not found.labels and not found.unknown
        return self._silence[phrase]


def _names(item: ClassName) -> list[str]:
    """The readable name, or the alternatives that it joins by "or"."""
    alternatives = [word for word, kind in item.parts.items() if kind == "alternative"]
    joined = [item.readable] if item.readable not in alternatives else []
    return alternatives if " or " in item.readable and alternatives else [*joined, *alternatives]


def _with_article(noun: str) -> str:
    """The noun with "a" or "an": "an umbrella", "a unicycle", "an SUV", "an 18 wheeler"."""
    first = noun.split()[0].lower()
    stem = first.split("-")[0]
    if stem in _VOWEL_SOUND or first in _VOWEL_SOUND:
        vowel = True
    elif first[0].isdigit():
        vowel = first[0] == "8" or first in ("11", "18")
    elif first.startswith(("unin", "unim", "unid")):
        vowel = True  # "uninhabited", not "united"
    else:
        vowel = first[0] in "aeiou" and not first.startswith(_CONSONANT_SOUND)
    return f"{'an' if vowel else 'a'} {noun}"


def _is_gerund(form: str) -> bool:
    return form.split()[0].endswith("ing")


def _kind(form: str) -> str:
    if form.lower() in _MASS:
        return "mass"
    if form.lower() in _UNIQUE:
        return "the"
    return "alone" if form.split()[-1].lower() in _SINGLE else "one"
