"""Captions with their classes: labelling, the file on disk, and the summary for the terminal."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from t2ipal.captions.nouns.noun_filter import NounFilter
from t2ipal.captions.nouns.phrases import phrase_table
from t2ipal.captions.sources import Caption
from t2ipal.errors import UserError, listed
from t2ipal.files import NO_OTHER_KEYS
from t2ipal.files.row_file import KeyIndex, RowFile
from t2ipal.vocabulary import Vocabulary

_EXAMPLES = 5
_SPREAD = 200  # rows, at least, among which examples are chosen


@dataclass(frozen=True, slots=True)
class LabelledCaption:
    """A caption and what it says about the classes.

    Attributes:
        id: the caption's identity.
        caption: its text.
        labels: classes it names, in the vocabulary's order.
        unknown: classes one of whose words occurs without naming them.
        matches: class -> the word that decided, for labels and unknown alike.
    """

    id: Annotated[str, MinLen(1)]
    caption: Annotated[str, MinLen(1)]
    labels: tuple[str, ...]
    unknown: tuple[str, ...]
    matches: dict[str, str]

    __pydantic_config__ = NO_OTHER_KEYS

    def __post_init__(self) -> None:
        if len(self.labels) + len(self.unknown) < 2:
            return
        for key in ("labels", "unknown"):
            names = getattr(self, key)
            if len(set(names)) != len(names):
                raise UserError(f"{key!r} names a class twice.")
        if both := set(self.labels) & set(self.unknown):
            raise UserError(f"{min(both)!r} is both a label and unknown; decide for one.")


def label_captions(
    captions: Iterable[Caption | str], classes: Vocabulary | str | Path | Sequence[str]
) -> list[LabelledCaption]:
    """Find the classes that each caption names. All captions are kept, in order.

    Args:
        captions: captions, or bare texts (their ids are 1, 2, ...).
        classes: a vocabulary, a built-in name (``voc2007``), a YAML file, or a list of class names.

    Raises:
        UserError: no such vocabulary, or two captions with one id.

    Examples:
        >>> (row,) = label_captions(["an orange cat by a bus stop"], "coco2014")
        >>> row.labels, row.unknown
        (('cat',), ('bus', 'orange'))
    """
    if isinstance(captions, str):
        raise UserError("expected a list of captions, found one text; put it in a list.")
    if isinstance(classes, Vocabulary | str | Path):
        vocabulary = Vocabulary.load(classes)
    else:
        vocabulary = Vocabulary.of(classes)
    numbered = [
        item if isinstance(item, Caption) else Caption(str(number), item)
        for number, item in enumerate(captions, start=1)
    ]
    (id, count), *_ = Counter(caption.id for caption in numbered).most_common(1) or [("", 1)]
    if count > 1:
        raise UserError(f"two captions have the id {id!r}; make the ids distinct.")
    return list(label_each(numbered, vocabulary))


def label_each(captions: Iterable[Caption], vocabulary: Vocabulary) -> Iterator[LabelledCaption]:
    """Find the classes that each caption names, one caption after the other."""
    nouns = NounFilter(vocabulary)
    for caption in captions:
        found = nouns.label(caption.text)
        yield LabelledCaption(caption.id, caption.text, found.labels, found.unknown, found.matches)


def read_labelled(path: str | Path) -> Sequence[LabelledCaption]:
    """Labelled captions, one JSON object per line; they are read again when they are asked for.

    Raises:
        UserError: the file cannot be read, is empty, or a line breaks the format (with the line).
    """
    lines, ids = array("q"), KeyIndex()

    def note(number: int, row: LabelledCaption) -> None:
        lines.append(number)
        ids.add(row.id)

    rows = RowFile(path, LabelledCaption, each=note)
    if not rows:
        raise UserError(f"{path}: holds no captions; label some first.")
    if (twice := ids.repeated()) is not None:
        before, again = twice
        raise UserError(
            f"{path}:{lines[again]}: the id {rows[again].id!r} stands on line {lines[before]} "
            "already; make the ids distinct."
        )
    return rows


@dataclass(frozen=True)
class LabelSummary:
    """What a labelling found.

    Attributes:
        captions: number of captions.
        unlabelled: captions that name no class.
        doubtful: captions that leave some class unknown.
        counts: class -> captions that name it.
        unknown: class -> captions that leave it unknown.
        words: class -> the words that named it, most frequent first.
        examples: a few labelled captions that show different classes.
        notes: what there is to say of the names of the classes, in sentences.
    """

    captions: int
    unlabelled: int
    doubtful: int
    counts: dict[str, int]
    unknown: dict[str, int]
    words: dict[str, tuple[str, ...]]
    examples: tuple[LabelledCaption, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[LabelledCaption], vocabulary: Vocabulary) -> LabelSummary:
        """Count ``rows``, which were labelled with ``vocabulary``; none of them is kept."""
        counts = dict.fromkeys(vocabulary.names, 0)
        unknown = dict.fromkeys(vocabulary.names, 0)
        words: dict[str, dict[str, int]] = {name: {} for name in vocabulary.names}
        captions = unlabelled = doubtful = 0
        # Evenly spread rows that name a class: the head of a file is seldom typical.
        spread, step = list[LabelledCaption](), 1
        for row in rows:
            if row.labels and (captions - unlabelled) % step == 0:
                spread.append(row)
                if len(spread) == 2 * _SPREAD:
                    spread, step = spread[::2], 2 * step
            captions += 1
            unlabelled += not row.labels
            doubtful += bool(row.unknown)
            for name in row.labels:
                vocabulary.index(name)
                counts[name] += 1
                word = row.matches.get(name, "")
                words[name][word] = words[name].get(word, 0) + 1
            for name in row.unknown:
                vocabulary.index(name)
                unknown[name] += 1
        return cls(
            captions=captions,
            unlabelled=unlabelled,
            doubtful=doubtful,
            counts=counts,
            unknown=unknown,
            words={
                name: tuple(sorted(found, key=lambda word: (-found[word], word)))
                for name, found in words.items()
            },
            examples=_examples(spread),
            notes=phrase_table(vocabulary).notes,
        )

    @property
    def without_caption(self) -> tuple[str, ...]:
        """Classes that no caption names: nothing can be learned about them."""
        return tuple(name for name, count in self.counts.items() if count == 0)

    def lines(self) -> list[str]:
        """The summary for the terminal: one line per class, examples, and a warning."""
        named = self.captions - self.unlabelled
        out = [
            f"{self.captions} captions: {named} name a class, {self.unlabelled} name none, "
            f"{self.doubtful} leave some class unknown",
        ]
        width = max((len(name) for name in self.counts), default=5)
        out.append(f"{'class':{width}s}  {'captions':>8s}  {'unknown':>7s}  words")
        for name, count in self.counts.items():
            words = ", ".join(self.words[name][:_EXAMPLES])
            out.append(f"{name:{width}s}  {count:8d}  {self.unknown[name]:7d}  {words}".rstrip())
        if self.examples:
            out.append("for example:")
        for row in self.examples:
            unknown = f"; unknown: {', '.join(row.unknown)}" if row.unknown else ""
            out.append(f"  {_short(row.caption)} -> {', '.join(row.labels)}{unknown}")
        out += [f"note: {note}" for note in self.notes]
        missing = self.without_caption
        if missing:
            one = len(missing) == 1
            out.append(
                f"warning: no caption names {len(missing)} of {len(self.counts)} classes: "
                f"{listed(missing, 30)}; add captions or synonyms for {'it' if one else 'them'}"
            )
        return out


def _examples(rows: Sequence[LabelledCaption]) -> tuple[LabelledCaption, ...]:
    """A few captions, each with a class that the ones before it do not show."""
    chosen: list[LabelledCaption] = []
    shown: set[str] = set()
    for row in rows:
        fresh = [name for name in row.labels if name not in shown]
        if fresh and len(chosen) < _EXAMPLES:
            chosen.append(row)
            shown.update(fresh)
    return tuple(chosen)


def _short(text: str) -> str:
    return text if len(text) <= 90 else text[:87].rstrip() + "..."
