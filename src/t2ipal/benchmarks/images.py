"""Images and what they show, whatever file said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2ipal.vocabulary import Vocabulary


@dataclass(frozen=True)
class LabelledImages:
    """Images and what they show.

    Attributes:
        source: where they come from, in words a report can print.
        files: N image paths.
        targets: int8 [N, C], 1 present, 0 absent, -1 unknown, in the vocabulary's order.
        ignored: classes of the source that the vocabulary does not have.
    """

    source: str
    files: tuple[Path, ...]
    targets: np.ndarray
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.targets.ndim != 2 or len(self.files) != len(self.targets):
            raise ValueError(f"{len(self.files)} files for targets {self.targets.shape}")

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Sequence[int] | np.ndarray) -> LabelledImages:
        """The images at ``indices``, in that order."""
        files = tuple(self.files[i] for i in indices)
        return LabelledImages(self.source, files, self.targets[np.asarray(indices)], self.ignored)


def class_lookup(vocabulary: Vocabulary, *, synonyms: bool) -> dict[str, int]:
    """Case-folded name -> class; a class's own name wins over what else another is called."""
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
