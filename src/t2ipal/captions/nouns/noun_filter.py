"""The noun filter: which classes of a vocabulary does a caption name?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2ipal.captions.nouns.lexicon import ADJECTIVE, CLOSED, NOUN, VERB
from t2ipal.captions.nouns.phrases import Entry, phrase_table
from t2ipal.captions.nouns.sentence import Match, Objection, Sentence, tokenize
from t2ipal.captions.nouns.syntax_rules import STANDS_BEFORE
from t2ipal.vocabulary import Vocabulary


@dataclass(frozen=True)
class _CaptionLabels:
    """What a caption says about each class; classes in neither list are not mentioned.

    Attributes:
        labels: classes the caption names, in the vocabulary's order.
        unknown: classes one of whose words occurs without naming it ("orange cat").
        matches: class -> the word that decided, for labels and unknown alike.
    """

    labels: tuple[str, ...]
    unknown: tuple[str, ...]
    matches: dict[str, str]


@dataclass(frozen=True)
class _Finding:
    """An occurrence of a class word, and why it does not count ("" where it does)."""

    name: str
    word: str
    reason: str


_Found = list[tuple[int, str, str]]  # class position, word as written, reason


_PIECE = 250
"""Words that are read together; a longer caption is cut behind its sentences, or anywhere."""


def _end_of_piece(words: list[str], start: int) -> int:
    end = min(start + _PIECE, len(words))
    if end < len(words):
        stops = (place for place in range(end, start, -1) if words[place - 1] in (".", "!", "?"))
        end = next(stops, end)
    return end


class NounFilter:
    """Finds the classes that captions name.

    All names, synonyms and their plurals are looked up longest first, together with the phrases
    that only look like a class (``words/idioms.yaml`` and the vocabulary's ``excluding``); rules of
    grammar (``syntax_rules.py``) and of meaning (``meaning_rules.py``) then decide about each
    occurrence.

    Args:
        vocabulary: a :class:`Vocabulary`, a built-in name or the path of a YAML file.

    Examples:
        >>> NounFilter("coco2014").label("a man trains a dog").labels
        ('person', 'dog')
    """

    def __init__(self, vocabulary: Vocabulary | str | Path) -> None:
        self.vocabulary = Vocabulary.load(vocabulary)
        self._attributive = frozenset(
            position for position, item in enumerate(self.vocabulary.classes) if item.attributive
        )
        self._names = self.vocabulary.names
        self._phrases = phrase_table(self.vocabulary)
        self._unspaced = self._phrases.unspaced

    def label(self, text: str) -> _CaptionLabels:
        """The classes that ``text`` names, and those it leaves unknown."""
        found = self._search(text)
        if not found:
            return _CaptionLabels((), (), {})
        labels: dict[int, str] = {}
        unknown: dict[int, str] = {}
        for position, word, reason in found:
            (unknown if reason else labels).setdefault(position, word)
        names = self._names
        named = sorted(labels)
        matches = {names[position]: labels[position] for position in named}
        if not unknown:
            return _CaptionLabels(tuple(matches), (), matches)
        doubtful = sorted(unknown.keys() - labels.keys())
        matches.update((names[position], unknown[position]) for position in doubtful)
        return _CaptionLabels(
            tuple(names[position] for position in named),
            tuple(names[position] for position in doubtful),
            matches,
        )

    def explain(self, text: str) -> list[_Finding]:
        """Every occurrence of a class word, with the reason where it does not count."""
        names = self._names
        return [_Finding(names[key], word, reason) for key, word, reason in self._search(text)]

    def _search(self, text: str) -> _Found:
        words, joined = tokenize(text)
        found: _Found = []
        if len(words) <= _PIECE:
            self._search_words(words, joined, found)
            return found
        start = 0
        while start < len(words):
            end = _end_of_piece(words, start)
            inside = frozenset(place - start for place in joined if start <= place < end)
            self._search_words(words[start:end], inside, found)
            start = end
        return found

    def _search_words(self, words: list[str], joined: frozenset[int], found: _Found) -> None:
        phrases, first_words = self._phrases, self._phrases.first_words
        sentence: Sentence | None = None
        index, count = 0, len(words)
        while index < count:
            entry = phrases.find(words, index) if words[index] in first_words else None
            if entry is None:
                if self._unspaced and not words[index].isascii():
                    self._look_inside(words[index], found)
                index += 1
                continue
            sentence = sentence or Sentence.of(words, joined)
            if entry.names_classes:
                self._decide(sentence, entry, index, found)
            else:
                self._shield(sentence, entry, index, found)
            index += len(entry.words)

    def _decide(self, sentence: Sentence, entry: Entry, start: int, found: _Found) -> None:
        """A phrase that names classes, if its surroundings let it."""
        end = start + len(entry.words)
        reason = _verdict(sentence, Match(entry.form, start, end), entry.rules)
        word = _as_written(sentence, start, end)
        tag = sentence.tags[start - 1]
        qualified = entry.bare and tag & NOUN and not tag & (CLOSED | ADJECTIVE | VERB)
        for key in entry.classes:
            counts = key in self._attributive and reason.startswith(STANDS_BEFORE)
            other = "another sense" if qualified and key in entry.bare else ""  # "hair bow"
            found.append((key, word, "" if counts else reason or other))
        for key, context in entry.contexts:
            around = sentence.words[:start] + sentence.words[end:]
            found.append((key, word, reason or ("ambiguous" if context.isdisjoint(around) else "")))
        for skipped, head in entry.heads:
            inner = start + skipped
            doubt = _verdict(sentence, Match(head.form, inner, end), head.rules)
            word = _as_written(sentence, inner, end)
            for key in (*head.classes, *(head.shared - {*entry.classes})):
                if key not in entry.denied:
                    doubtful = key in head.bare or key in head.shared
                    found.append((key, word, doubt or ("another sense" if doubtful else "")))

    def _look_inside(self, word: str, found: _Found) -> None:
        """A word of a script without blanks that holds a class's word, or only its signs."""
        for part, classes in self._unspaced.items():
            if part in word:
                found.extend((key, part, "part of a longer word") for key in classes)

    def _shield(self, sentence: Sentence, entry: Entry, start: int, found: _Found) -> None:
        """A phrase that only looks like a class: what it hides becomes unknown."""
        written = _as_written(sentence, start, start + len(entry.words))
        found.extend((key, written, "excluded") for key in entry.denied)
        for offset, inner in self._phrases.inside(entry):
            word = _as_written(sentence, start + offset, start + offset + len(inner.words))
            found.extend((key, word, f"part of {written!r}") for key in inner.classes)


def _verdict(sentence: Sentence, match: Match, rules: tuple[Objection, ...]) -> str:
    """Why the match names nothing in the picture; "" where it does.

    Args:
        rules: those that can object to the form.
    """
    above = sentence.governor(match.start)
    for objection in rules:
        reason = objection(sentence, match, above)
        if reason:
            return reason
    return ""


def _as_written(sentence: Sentence, start: int, end: int) -> str:
    """The words as the caption joins them."""
    if end - start == 1:
        return sentence.words[start]
    parts = [sentence.words[start]]
    for index in range(start + 1, end):
        if sentence.words[index] != "'s":
            parts.append("-" if index - 1 in sentence.joined else " ")
        parts.append(sentence.words[index])
    return "".join(parts)
