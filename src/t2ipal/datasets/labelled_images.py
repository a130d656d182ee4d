"""Images and what they show, whatever file said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2ipal.vocabulary import Vocabulary

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
    """

    source: str
    files: tuple[Path, ...]
    targets: Labels
    ignored: tuple[str, ...] = ()
    folder: Path | None = None

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


def class_lookup(vocabulary: Vocabulary, *, synonyms: bool) -> dict[str, int]:
    """Case-folded name -> class index; a class's own name wins over another's other names."""
    found: dict[str, int] = {}
    for index, entry in enumerate(vocabulary.classes):
        found.setdefault(entry.name.casefold(), index)
    for index, entry in enumerate(vocabulary.classes):
        found.setdefault(entry.readable.casefold(), index)
    if synonyms:
        for index, entry in enumerate(vocabulary.classes):
            for synonym in entry.synonyms:
                found.setdefault(synonym.casefold(), index)
    return found
