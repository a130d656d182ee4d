"""Images and what they show, whatever file said so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2ipal.captions.nouns.lexicon import noun_forms
from t2ipal.errors import UserError, listed, nearest
from t2ipal.files.broken import Broken
from t2ipal.files.names import name_key, readable_name
from t2ipal.vocabulary import UNKNOWN, Vocabulary

Labels = NDArray[np.int8]
"""1 present, 0 absent, -1 unknown: [N, C]."""


@dataclass(frozen=True)
class LabelledImages:
    """Images and what they show.

    Attributes:
        source: where they come from, in words a report can print.
        files: N image paths.
        targets: int8 [N, C], 1 present, 0 absent, -1 unknown, in the vocabulary's order.
        ignored: classes of the source that the vocabulary does not have.
        folder: the folder that :attr:`names` are relative to.
        notes: what was guessed or left out when they were read.
        skipped: how many more there would be, but they cannot be read.
    """

    source: str
    files: tuple[Path, ...]
    targets: Labels
    ignored: tuple[str, ...] = ()
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    skipped: int = 0

    def __post_init__(self) -> None:
        if self.targets.ndim != 2 or len(self.files) != len(self.targets):
            raise ValueError(f"{len(self.files)} files for targets {self.targets.shape}")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """Path of each file below ``folder``, the same wherever the folder lies."""
        folder = self.folder or Path()
        inside = (f.relative_to(folder) if f.is_relative_to(folder) else f for f in self.files)
        return tuple(file.as_posix() for file in inside)

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> LabelledImages:
        """The images at ``indices``, in that order."""
        files = tuple(self.files[i] for i in indices)
        return replace(self, files=files, targets=self.targets[np.asarray(indices)])

    def only(self, rows: Sequence[int]) -> LabelledImages:
        """Those at ``rows``; the others are skipped, because they cannot be read."""
        lost = len(self) - len(rows)
        return replace(self.take(rows), skipped=self.skipped + lost) if lost else self

    def lines(self) -> list[str]:
        """What was read, guessed, left out and ignored, for the terminal."""
        images = f"{len(self):,} image{'s' * (len(self) != 1)}"
        said = [f"read {images} from {readable_name(self.source)}", *self.notes]
        if self.skipped:
            verb = "is" if self.skipped == 1 else "are"
            said.append(f"{self.skipped} more cannot be read and {verb} left out")
        if self.ignored:
            said.append(f"categories without a class: {listed(self.ignored)}")
        return ["; ".join(said)]

    def readable(self, broken: Broken | None = None) -> LabelledImages:
        """The images whose headers can be read (:meth:`Broken.check`); seconds for thousands.

        Args:
            broken: told of the others; they are an error if omitted.

        Raises:
            UserError: one sentence about all that cannot be read, unless ``broken`` skips them.
        """
        return self.only((Broken() if broken is None else broken).check(self.files, self.source))

    def without(
        self, missing: Sequence[Path], message: str, broken: Broken | None
    ) -> LabelledImages:
        """Those but the ``missing``, which are not on disk.

        Raises:
            UserError: all are missing, or some that are not to be skipped; it says ``message``.
        """
        if not missing:
            return self
        broken = Broken() if broken is None else broken
        if len(missing) == len(self):
            raise UserError(message)
        if not broken.skip:
            broken.add("", UserError(message))
        for file in missing:
            broken.add(file, UserError(f"{file}: image not found; add it."))
        gone = set(missing)
        return self.only([row for row, file in enumerate(self.files) if file not in gone])


class ClassNames:
    """Which classes of a vocabulary a name in a file means.

    Spelling is no matter (:func:`t2ipal.files.names.name_key`), nor is singular or plural. A word
    may name several classes: with the classes ``car`` and ``vehicle``, a synonym of which is "car",
    it names both, and whatever is labelled a car is a vehicle too.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._found: dict[str, list[int]] = {}
        self._own: dict[str, int] = {}
        for index, entry in enumerate(vocabulary.classes):
            self._own.setdefault(name_key(entry.name), index)
        for index, entry in enumerate(vocabulary.classes):
            if entry.readable in (*entry.phrases, *vocabulary.own_parts[index]):
                self._own.setdefault(name_key(entry.readable), index)
        for key, index in list(self._own.items()):
            for form, _, _ in noun_forms(key):
                self._own.setdefault(name_key(form), index)
        for key, index in self._own.items():
            self._add(key, index)
        words = [
            (word, index)
            for index, entry in enumerate(vocabulary.classes)
            for word in (*entry.phrases, *entry.ambiguous, *vocabulary.own_parts[index])
        ]
        for word, index in words:
            self._add(name_key(word), index)
        for word, index in words:
            for form, _, _ in noun_forms(name_key(word)):
                self._add(name_key(form), index)

    def _add(self, key: str, index: int) -> None:
        classes = self._found.setdefault(key, [])
        if index not in classes:
            classes.append(index)

    def find(self, name: str) -> tuple[int, ...]:
        """The classes that a name means, the one of that very name first; none if it is unknown."""
        return tuple(self._found.get(name_key(name), ()))

    def means_whole(self, name: str, index: int) -> bool:
        """Whether a thing that is not ``name`` is not of the class: false for narrower words.

        No car does not mean no vehicle, if ``car`` is a class of its own.
        """
        return self._own.get(name_key(name), index) == index

    def complain(self, name: str, where: str) -> UserError:
        """The error of a name that means no class."""
        names = self._vocabulary.names
        return UserError(
            f"{where}: unknown class {name!r}{nearest(name, names)}; use the names of the "
            f"vocabulary {self._vocabulary.title!r}."
        )


class Columns:
    """Where the classes of a data set stand in a vocabulary.

    Attributes:
        names: the n classes of the data set that are classes of the vocabulary.
        ignored: its other classes.
        notes: what to say of classes of the vocabulary that the data set does not have.

    Args:
        names: the classes of the data set.
        vocabulary: the C classes; see :class:`ClassNames`.
        where: what the message starts with.
        elsewhere: what other vocabularies call a class of the data set.
        kind: what the message calls its classes.

    Raises:
        UserError: no class of the data set is one of the vocabulary.
    """

    def __init__(
        self,
        names: Iterable[str],
        vocabulary: Vocabulary,
        where: str,
        elsewhere: Mapping[str, str] | None = None,
        kind: str = "classes",
    ) -> None:
        every = list(names)
        known = ClassNames(vocabulary)
        columns: dict[str, tuple[int, ...]] = {}
        for name in every:
            for word in (name, (elsewhere or {}).get(name, name)):
                if found := known.find(word):
                    columns.setdefault(name, found)
        if not columns:
            raise UserError(
                f"{where}: none of its {len(every)} {kind} is a class of the vocabulary "
                f"{vocabulary.title!r}; give other classes."
            )
        self.names = tuple(columns)
        self.ignored = tuple(name for name in every if name not in columns)
        self._columns: dict[int, list[int]] = {}  # class -> its columns
        self._whole: set[int] = set()  # classes that are absent where all their names are
        for column, (name, classes) in enumerate(columns.items()):
            for index in classes:
                self._columns.setdefault(index, []).append(column)
                if known.means_whole(name, index):
                    self._whole.add(index)
        self._classes = len(vocabulary)
        lacking = [name for c, name in enumerate(vocabulary.names) if c not in self._columns]
        self.notes = [f"classes it says nothing about: {listed(lacking)}"] if lacking else []

    def targets(self, labels: Labels) -> Labels:
        """Labels int8 [N, n] of ``names`` as targets [N, C]; classes without a name are unknown.

        Where two names are one class it is present if either is, and absent if both are. A class
        that only narrower words name (car for vehicle) is unknown where these are absent.
        """
        targets = np.full((len(labels), self._classes), UNKNOWN, dtype=np.int8)
        for index, columns in self._columns.items():
            own = labels[:, columns]
            absent = (own == 0).all(axis=1) & (index in self._whole)
            targets[:, index] = np.where((own == 1).any(axis=1), 1, np.where(absent, 0, UNKNOWN))
        return targets
