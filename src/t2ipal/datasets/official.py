"""What readers of data sets share: options, where their classes stand, checks of their files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from t2ipal.datasets.labelled_images import ClassNames, LabelledImages, Labels
from t2ipal.errors import UserError, listed, nearest
from t2ipal.files.broken import Broken
from t2ipal.vocabulary import UNKNOWN, Vocabulary


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


def checked(
    source: str,
    list_file: Path,
    files: Sequence[Path],
    labels: Labels,
    columns: Columns,
    folder: Path,
    lines: Sequence[int] | None = None,
    broken: Broken | None = None,
) -> LabelledImages:
    """The images, all of which are there, each once.

    Args:
        labels: of the classes ``columns.names`` [N, n].
        list_file, lines: where each is listed; the lines from the first if omitted.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: there is none, or one is listed twice or not on disk; list and line are named.
    """
    if not files:
        raise UserError(f"{list_file}: lists no image; write one a line.")
    seen: dict[Path, int] = {}
    missing: list[Path] = []
    for line, file in zip(lines or range(1, len(files) + 1), files, strict=True):
        if file in seen:
            raise UserError(
                f"{list_file}:{line}: {file.name} is listed already in line {seen[file]}; keep one."
            )
        seen[file] = line
        if not file.is_file():
            missing.append(file)
    found = LabelledImages(
        source, tuple(files), columns.targets(labels), columns.ignored, folder,
        tuple(columns.notes),
    )  # fmt: skip
    where = f"{list_file}:{seen[missing[0]]}" if missing else list_file
    return found.without(
        missing,
        f"{where}: {len(missing)} of {len(files)} images are not on disk, "
        f"{missing[0] if missing else ''} is the first; unpack all archives of the benchmark.",
        broken,
    )


def wanted_file(path: Path, hint: str) -> Path:
    """The path, if there is such a file.

    Raises:
        UserError: there is none; the message ends with ``hint``.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; {hint}.")
    return path


def split_options(
    spec: str, rest: str, known: Collection[str], owner: str
) -> tuple[str, dict[str, str]]:
    """The name and the options of ``NAME?key=value&key=value``, the part ``rest`` of ``spec``.

    Raises:
        UserError: an option that is not ``known`` to the ``owner``.
    """
    name, _, text = rest.partition("?")
    options = dict(part.partition("=")[::2] for part in filter(None, text.split("&")))
    for key in options:
        if key not in known:
            raise UserError(
                f"{spec}: unknown option {key!r}{nearest(key, known)}; {owner} has "
                f"{', '.join(known)}."
            )
    return name, options
