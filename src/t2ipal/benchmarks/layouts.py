"""What the readers of official layouts share: where their classes stand, and their sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from t2ipal.benchmarks.images import LabelledImages, class_lookup
from t2ipal.errors import UserError
from t2ipal.vocabulary import UNKNOWN, Vocabulary


def columns_of(
    names: Iterable[str],
    vocabulary: Vocabulary,
    where: str,
    elsewhere: Mapping[str, str] | None = None,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Class of the source -> column of the vocabulary, and the source's classes that have none.

    Args:
        elsewhere: what other vocabularies call a class of the source.

    Raises:
        UserError: none has one; the message starts with ``where``.
    """
    names = list(names)
    lookup = class_lookup(vocabulary, synonyms=True)
    columns: dict[str, int] = {}
    for name in names:
        for word in (name, (elsewhere or {}).get(name, name)):
            if word.casefold() in lookup:
                columns.setdefault(name, lookup[word.casefold()])
    if not columns:
        raise UserError(
            f"{where}: none of its {len(names)} classes is one of the vocabulary "
            f"{vocabulary.title!r}; give other classes."
        )
    return columns, tuple(name for name in names if name not in columns)


def in_order(columns: dict[str, int], labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels int8 [N, names] of the columns' names, as [N, C]; classes without a name are unknown.

    Where two names are one class it is present if either is, and absent if both are.
    """
    targets = np.full((len(labels), classes), UNKNOWN, dtype=np.int8)
    for index in set(columns.values()):
        own = labels[:, [place for place, i in enumerate(columns.values()) if i == index]]
        absent = (own == 0).all(axis=1)
        targets[:, index] = np.where((own == 1).any(axis=1), 1, np.where(absent, 0, UNKNOWN))
    return targets


def checked(
    source: str,
    list_file: Path,
    files: Sequence[Path],
    targets: np.ndarray,
    ignored: tuple[str, ...],
    folder: Path,
) -> LabelledImages:
    """The images, all of which are there, each once.

    Raises:
        UserError: an image is listed twice or is not on disk; the list and the line are named.
    """
    seen: dict[Path, int] = {}
    missing: list[int] = []
    for line, file in enumerate(files, start=1):
        if file in seen:
            raise UserError(
                f"{list_file}:{line}: {file.name} stands in line {seen[file]} already; keep one."
            )
        seen[file] = line
        if not file.is_file():
            missing.append(line)
    if missing:
        first = files[missing[0] - 1]
        raise UserError(
            f"{list_file}:{missing[0]}: {len(missing)} of {len(files)} images are not on disk, "
            f"{first} is the first; unpack all archives of the benchmark."
        )
    return LabelledImages(source, tuple(files), targets, ignored, folder)


def wanted_file(path: Path, hint: str) -> Path:
    """The path, if there is such a file.

    Raises:
        UserError: there is none; ``hint`` says where it is to be had.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; {hint}.")
    return path
