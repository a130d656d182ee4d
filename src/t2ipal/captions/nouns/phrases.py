"""The search table of the noun filter: every phrase that may name a class, and what it means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from t2ipal.captions.nouns.lexicon import (
    ADVERB,
    CLOSED,
    MODAL,
    TOYS,
    VERB,
    head_of,
    living_kind,
    noun_forms,
    readings,
    verb_forms,
    word_lists,
)
from t2ipal.captions.nouns.meaning_rules import (
    ACTIVITY,
    AWAITED,
    COLLECTIVE,
    COLOUR,
    DEPICTION,
    KIN,
    LIKENESS,
    MEAT,
    NEGATED,
)
from t2ipal.captions.nouns.sentence import Form, Objection, Rule, tokenize
from t2ipal.captions.nouns.syntax_rules import HYPHENATED, MODIFIER, POSSESSIVE, VERBAL
from t2ipal.errors import listed
from t2ipal.files.class_words import is_id
from t2ipal.files.names import fold
from t2ipal.vocabulary import Vocabulary

# Thai to Burmese, Khmer, kana, Han, Hangul: no blanks between words, or particles joined to them.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"
)
_OF_GRAMMAR = CLOSED & ~(MODAL | ADVERB)
_PUNCTUATION = frozenset('.,;:!?()"/-\u2013\u2014')
_SHOWN = 5

# In the order in which they are asked; the first objection is the reason.
_NOUN_RULES: tuple[Rule, ...] = (
    HYPHENATED,
    POSSESSIVE,
    COLLECTIVE,
    COLOUR,
    VERBAL,
    MODIFIER,
    NEGATED,
)
_NOUN_RULES += (LIKENESS, DEPICTION, AWAITED, MEAT, KIN)
_ACTIVITY_RULES: tuple[Rule, ...] = (ACTIVITY, NEGATED)


@dataclass(frozen=True, slots=True)
class Entry:
    """A phrase of the table.

    Attributes:
        words: its words.
        form: what its shape tells.
        rules: the rules that can object to it.
        classes: positions of the classes it names.
        contexts: (position, context words) of the classes it names in such a context only.
        denied: positions of the classes that exclude it; a phrase that names another class says
            nothing about them, any other leaves them unknown.
        bare: positions of those of ``classes`` that a bare word names, of which the class itself
            says that it has other senses; see :attr:`t2ipal.vocabulary.ClassName.parts`.
        shared: positions of classes that a shorter name may mean, and others too.
        heads: (number of front words, entry) of the shorter phrases that end it and name further
            classes: a "police car" is a car. Empty for idioms: a "hot dog" is no dog.
    """

    words: tuple[str, ...]
    form: Form
    rules: tuple[Objection, ...]
    classes: tuple[int, ...]
    contexts: tuple[tuple[int, frozenset[str]], ...]
    denied: tuple[int, ...]
    bare: frozenset[int]
    shared: frozenset[int]
    heads: tuple[tuple[int, Entry], ...]

    @property
    def names_classes(self) -> bool:
        return bool(self.classes or self.contexts)


@dataclass
class _Meaning:
    """What is known of a phrase while the table is filled; dicts serve as ordered sets."""

    singular: bool = False
    plural: bool = False
    activity: bool = False
    idiom: bool = False
    classes: dict[int, None] = field(default_factory=dict)
    contexts: dict[int, frozenset[str]] = field(default_factory=dict)
    denied: dict[int, None] = field(default_factory=dict)
    bare: set[int] = field(default_factory=set)
    shared: set[int] = field(default_factory=set)


class _PhraseTable:
    """All phrases of a vocabulary, with plurals, and the idioms that hide one of its words.

    Attributes:
        unspaced: words in scripts that are written without blanks, with the classes they name.
        notes: what a summary must say of the names, in sentences.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        # First word -> (entry of that word alone, second word -> longer entries, longest first).
        self._table: dict[str, tuple[Entry | None, dict[str, list[Entry]]]] = {}
        meanings = _meanings(vocabulary)
        self._fill(meanings)
        self.unspaced = {
            key: tuple(meaning.classes)
            for key, meaning in meanings.items()
            if meaning.classes and _UNSPACED.search(key)
        }
        self.notes = tuple(_notes(vocabulary, meanings))

    @property
    def first_words(self) -> Container[str]:
        """The words that begin a phrase."""
        return self._table

    def find(self, words: list[str], index: int) -> Entry | None:
        """The longest phrase at ``words[index:]``; ``words[index]`` begins one."""
        alone, longer = self._table[words[index]]
        if longer and index + 1 < len(words):
            for entry in longer.get(words[index + 1], ()):  # two words of it are there
                end = index + len(entry.words)
                if end == index + 2 or tuple(words[index:end]) == entry.words:
                    return entry
        return alone

    def inside(self, entry: Entry) -> list[tuple[int, Entry]]:
        """(offset, entry) of the class words within an idiom, from left to right."""
        words = list(entry.words)
        found = []
        index = 0
        while index < len(words):
            inner = self._inner(words, index)
            if inner is not None:
                found.append((index, inner))
            index += len(inner.words) if inner is not None else 1
        return found

    def _inner(self, words: list[str], index: int) -> Entry | None:
        """The longest phrase that names a class at ``index`` and is not the whole of ``words``."""
        alone, longer = self._table.get(words[index], (None, {}))
        for entry in longer.get(words[index + 1], ()) if index + 1 < len(words) else ():
            fits = tuple(words[index : index + len(entry.words)]) == entry.words
            if entry.classes and fits and len(entry.words) < len(words):
                return entry
        return alone if alone is not None and alone.classes else None

    def _fill(self, meanings: dict[str, _Meaning]) -> None:
        entries: dict[str, Entry] = {}
        for key in sorted(meanings, key=lambda key: key.count(" ")):
            meaning = meanings[key]
            words = tuple(key.split())
            form = Form(
                phrase=key,
                singular=meaning.singular,
                plural=meaning.plural,
                animate=TOYS.isdisjoint(words) and living_kind(head_of(key)) != "",
                activity=meaning.activity,
                toy=not TOYS.isdisjoint(words),
            )
            rules = _ACTIVITY_RULES if form.activity else _NOUN_RULES
            entry = Entry(
                words,
                form,
                tuple(objects for objects, to in rules if to is None or to(form)),
                tuple(meaning.classes),
                tuple(item for item in meaning.contexts.items() if item[0] not in meaning.classes),
                tuple(meaning.denied),
                frozenset(meaning.bare),
                frozenset(meaning.shared),
                () if meaning.idiom or not meaning.classes else _heads(words, meaning, entries),
            )
            entries[key] = entry
            alone, longer = self._table.get(words[0], (None, {}))
            if len(words) == 1:
                alone = entry
            else:
                longer.setdefault(words[1], []).insert(0, entry)
            self._table[words[0]] = (alone, longer)


@lru_cache(maxsize=8)
def phrase_table(vocabulary: Vocabulary) -> _PhraseTable:
    """The table of a vocabulary, made once."""
    return _PhraseTable(vocabulary)


def _heads(
    words: tuple[str, ...], meaning: _Meaning, entries: dict[str, Entry]
) -> tuple[tuple[int, Entry], ...]:
    """The phrases that end ``words`` and name classes which the whole does not."""
    ends = [(skip, entries.get(" ".join(words[skip:]))) for skip in range(1, len(words))]
    return tuple(
        (skip, head)
        for skip, head in ends
        if head is not None and not meaning.classes.keys() >= {*head.classes, *head.shared}
    )


def _meanings(vocabulary: Vocabulary) -> dict[str, _Meaning]:
    """Every surface form of the vocabulary and of the idioms, with its meaning."""
    meanings: dict[str, _Meaning] = {}

    def nouns(phrase: str) -> list[_Meaning]:
        found = []
        for form, singular, plural in noun_forms(fold(phrase)):
            for key in _spellings(form):
                meaning = meanings.setdefault(key, _Meaning())
                meaning.singular |= singular
                meaning.plural |= plural
                found.append(meaning)
        return found

    for position, item in enumerate(vocabulary.classes):
        for phrase in item.phrases:
            if _can_be_found(phrase) or phrase in item.synonyms:
                for meaning in nouns(phrase):
                    meaning.classes[position] = None
        for phrase, context in item.ambiguous.items():
            around = frozenset(form for word in context for form in _all_forms(word))
            for meaning in nouns(phrase):
                meaning.contexts[position] = around
        for phrase in item.verbs:
            for form in verb_forms(fold(phrase)):
                meaning = meanings.setdefault(_key(form), _Meaning())
                meaning.activity = True
                meaning.classes[position] = None
        for phrase in item.excluding:
            for meaning in nouns(phrase):
                meaning.denied[position] = None
    _add_parts(vocabulary, nouns)
    # Idioms in which no class word stands cannot hide one.
    class_words = {word for key in meanings for word in key.split()}
    idioms = dict(word_lists("idioms"))
    expressions = idioms.pop("expressions")
    for phrase in sorted(frozenset[str]().union(*idioms.values())):
        if not class_words.isdisjoint(_key(phrase).split()):
            for meaning in nouns(phrase):
                meaning.idiom = True
    for phrase in sorted(expressions):
        if not class_words.isdisjoint(phrase.split()):
            meanings.setdefault(_key(phrase), _Meaning(singular=True)).idiom = True
    return meanings


def _add_parts(vocabulary: Vocabulary, nouns: Callable[[str], list[_Meaning]]) -> None:
    """The shorter names: they name a class if they can mean no other, else leave it unknown."""
    claims: dict[int, tuple[_Meaning, dict[int, str]]] = {}
    for position, item in enumerate(vocabulary.classes):
        for word, kind in item.parts.items():
            for meaning in nouns(word) if _can_be_found(word) else ():
                claims.setdefault(id(meaning), (meaning, {}))[1].setdefault(position, kind)
    for meaning, kinds in claims.values():
        sure = {*meaning.classes, *meaning.contexts}
        for position, kind in kinds.items():
            if position in sure:
                continue
            if kind == "fragment" or len(sure | kinds.keys()) > 1:
                meaning.contexts[position] = frozenset()
                meaning.shared.add(position)
            else:
                meaning.classes[position] = None
                if kind == "bare":
                    meaning.bare.add(position)


def _notes(vocabulary: Vocabulary, meanings: dict[str, _Meaning]) -> Iterator[str]:
    names = vocabulary.names
    found = {position for meaning in meanings.values() for position in meaning.classes}
    lost = [names[position] for position in range(len(names)) if position not in found]
    if lost:
        yield (
            f"no caption can ever name {listed(lost)}: a number, an id, a word of grammar or the "
            "word of several classes; give a readable name or synonyms"
        )
    doubtful = {key: meaning for key, meaning in meanings.items() if meaning.shared}
    shown = [
        f"{key!r} ({', '.join(names[one] for one in sorted({*meaning.classes, *meaning.shared}))})"
        for key, meaning in doubtful.items()
        if meaning.singular
    ]
    if shown:
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        yield (
            f"words that may name several classes, or part of one, leave these unknown: "
            f"{', '.join(shown[:_SHOWN])}{more}; give the classes synonyms that tell them apart"
        )
    split = [item.name for item in vocabulary.classes if "alternative" in item.parts.values()]
    if split:
        yield f"read as several names each: {listed(split)}"
    words: dict[int, list[str]] = {}
    for key, meaning in meanings.items():
        for position in meaning.classes:
            words.setdefault(position, []).append(key)
    alike: dict[tuple[str, ...], list[str]] = {}
    for position, keys in sorted(words.items()):
        alike.setdefault(tuple(sorted(keys)), []).append(names[position])
    for group in (group for group in alike.values() if len(group) > 1):
        yield f"{listed(group)} have the same words, so every caption names all or none; keep one"
    foreign = [item.name for item in vocabulary.classes if _is_foreign(fold(item.readable))]
    if foreign:
        yield (
            f"the noun filter reads English; {listed(foreign)} is found as it stands, between "
            "blanks, and unknown as part of a longer word: give other forms as synonyms, and put "
            "blanks between the words of captions in scripts without"
        )


def _is_foreign(name: str) -> bool:
    words = () if name.isascii() else _key(name).split()
    return not all(readings[word] or readings[_without_accents(word)] for word in words)


def _can_be_found(phrase: str) -> bool:
    """Whether a class can go by this name: not by an id, a number or a word such as "on"."""
    key = _key(phrase)
    if is_id(phrase) or not any(character.isalpha() for character in key):
        return False
    return " " in key or not readings[key] & _OF_GRAMMAR


def _key(phrase: str) -> str:
    return " ".join(tokenize(phrase)[0])


def _spellings(form: str) -> Iterator[str]:
    """The form as captions spell it: less its punctuation or accents, "&" and "and" alike."""
    key = _key(form)
    words = key.split()
    kept = words if "(" in words else [word for word in words if word[0] not in _PUNCTUATION]
    for spelling in dict.fromkeys((key, " ".join(kept), _without_accents(key))):
        yield spelling
        if "&" in words:
            yield spelling.replace(" & ", " and ")
        elif "and" in words:
            yield spelling.replace(" and ", " & ")


def _all_forms(word: str) -> list[str]:
    word = fold(word)
    verbs = verb_forms(word) if readings[word] & VERB else ()
    return [*(form for form, _, _ in noun_forms(word)), *verbs]


def _without_accents(text: str) -> str:
    """Latin letters without their accents: "cafe" for "café"; other scripts as they are."""
    if text.isascii() or not all(unicodedata.normalize("NFD", c)[0] < "\u0250" for c in text):
        return text
    parts = unicodedata.normalize("NFD", text)
    return "".join(sign for sign in parts if not unicodedata.combining(sign))
