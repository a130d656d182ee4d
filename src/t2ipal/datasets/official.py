"""What the readers of official layouts share: where their classes stand, and their sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from t2ipal.datasets.labelled_images import LabelledImages, class_lookup
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
    lines: Sequence[int] | None = None,
) -> LabelledImages:
    """The images, all of which are there, each once.

    Args:
        list_file, lines: where each is listed; one a line from the first where not given.

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
                f"{list_file}:{line}: {file.name} stands in line {seen[file]} already; keep one."
            )
        seen[file] = line
        if not file.is_file():
            missing.append(file)
    if missing:
        raise UserError(
            f"{list_file}:{seen[missing[0]]}: {len(missing)} of {len(files)} images are not on "
            f"disk, {missing[0]} is the first; unpack all archives of the benchmark."
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
