"""The search table of the noun filter: every phrase that may name a class, and what it means."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from t2ipal.captions.nouns.lexicon import VERB, noun_forms, readings, verb_forms, word_lists
from t2ipal.captions.nouns.living import TOYS, is_animate
from t2ipal.captions.nouns.match import Form, Objection
from t2ipal.captions.nouns.rules import rules_for
from t2ipal.captions.nouns.sentence import tokenize
from t2ipal.vocabulary import Vocabulary


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
        heads: (number of front words, entry) of the shorter phrases that end it and name further
            classes: a "police car" is a car. Empty for idioms: a "hot dog" is no dog.
    """

    words: tuple[str, ...]
    form: Form
    rules: tuple[Objection, ...]
    classes: tuple[int, ...]
    contexts: tuple[tuple[int, frozenset[str]], ...]
    denied: tuple[int, ...]
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


class PhraseTable:
    """All phrases of a vocabulary, with plurals, and the idioms that hide one of its words."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        # First word -> (entry of that word alone, second word -> longer entries, longest first).
        self._table: dict[str, tuple[Entry | None, dict[str, list[Entry]]]] = {}
        self._fill(_meanings(vocabulary))

    @property
    def first_words(self) -> Container[str]:
        """The words that begin a phrase."""
        return self._table

    def find(self, words: list[str], index: int) -> Entry | None:
        """The longest phrase at ``words[index:]``; ``words[index]`` begins one."""
        alone, longer = self._table[words[index]]
        if longer and index + 1 < len(words):
            for entry in longer.get(words[index + 1], ()):
                if tuple(words[index : index + len(entry.words)]) == entry.words:
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
                animate=is_animate(key),
                activity=meaning.activity,
                toy=not TOYS.isdisjoint(words),
            )
            entry = Entry(
                words,
                form,
                rules_for(form),
                tuple(meaning.classes),
                tuple(item for item in meaning.contexts.items() if item[0] not in meaning.classes),
                tuple(meaning.denied),
                () if meaning.idiom or not meaning.classes else _heads(words, meaning, entries),
            )
            entries[key] = entry
            alone, longer = self._table.get(words[0], (None, {}))
            if len(words) == 1:
                alone = entry
            else:
                longer.setdefault(words[1], []).insert(0, entry)
            self._table[words[0]] = (alone, longer)


def _heads(
    words: tuple[str, ...], meaning: _Meaning, entries: dict[str, Entry]
) -> tuple[tuple[int, Entry], ...]:
    """The phrases that end ``words`` and name classes which the whole does not."""
    ends = [(skip, entries.get(" ".join(words[skip:]))) for skip in range(1, len(words))]
    return tuple(
        (skip, head)
        for skip, head in ends
        if head is not None and not meaning.classes.keys() >= set(head.classes)
    )


def _meanings(vocabulary: Vocabulary) -> dict[str, _Meaning]:
    """Every surface form of the vocabulary and of the idioms, with its meaning."""
    meanings: dict[str, _Meaning] = {}

    def nouns(phrase: str) -> list[_Meaning]:
        found = []
        for form, singular, plural in noun_forms(phrase.casefold()):
            meaning = meanings.setdefault(_key(form), _Meaning())
            meaning.singular |= singular
            meaning.plural |= plural
            found.append(meaning)
        return found

    for position, item in enumerate(vocabulary.classes):
        for phrase in item.phrases:
            for meaning in nouns(phrase):
                meaning.classes[position] = None
        for phrase, context in item.ambiguous.items():
            around = frozenset(form for word in context for form in _all_forms(word))
            for meaning in nouns(phrase):
                meaning.contexts[position] = around
        for phrase in item.verbs:
            for form in verb_forms(phrase.casefold()):
                meaning = meanings.setdefault(_key(form), _Meaning())
                meaning.activity = True
                meaning.classes[position] = None
        for phrase in item.excluding:
            for meaning in nouns(phrase):
                meaning.denied[position] = None
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


def _key(phrase: str) -> str:
    return " ".join(tokenize(phrase)[0])


def _all_forms(word: str) -> list[str]:
    word = word.casefold()
    verbs = verb_forms(word) if readings[word] & VERB else ()
    return [*(form for form, _, _ in noun_forms(word)), *verbs]
