"""What a call of ``generate`` found and did, in total and class by class."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2ipal.generation.duplicates import near_duplicates
from t2ipal.generation.screening import UNSEEN
from t2ipal.generation.store import ImageRow


@dataclass(frozen=True)
class _ClassCount:
    """The images of one class.

    Attributes:
        images: usable images that should show it.
        missing: those of them in which an inspector does not find it.
        added: usable images in which an inspector finds it unasked.
        rejected: images rejected because none of their labels, of which it is one, was found.
        near: those of ``images`` that nearly repeat an earlier image.
    """

    images: int
    missing: int
    added: int
    rejected: int
    near: int


class Tally:
    """Counts over the images of a job, which are added in order.

    Args:
        rows: the first ones.

    Attributes:
        images: how many are usable.
        failed: how many failed in every attempt.
        rejected: reason -> attempts rejected for it.
    """

    def __init__(self, rows: Iterable[ImageRow] = ()) -> None:
        self.images = self.failed = 0
        self.rejected = Counter[str]()
        self._shown = Counter[tuple[tuple[str, ...], ...]]()  # labels, missing and added ones
        self._unseen = Counter[str]()
        self._prints = bytearray()
        self._labels: dict[tuple[str, ...], int] = {}  # each combination, and its number
        self._printed = array("l")  # of each fingerprint's image the number of its labels
        for row in rows:
            self.add(row)

    def add(self, row: ImageRow) -> None:
        """Count an image."""
        for entry in row.rejected:
            self.rejected[entry.reason] += 1
            if entry.reason == UNSEEN:
                self._unseen.update(row.labels)
        if row.failed:
            self.failed += 1
            return
        self.images += 1
        self._shown[row.labels, row.missing, row.added] += 1
        if row.fingerprint:
            self._prints += bytes.fromhex(row.fingerprint)
            self._printed.append(self._labels.setdefault(row.labels, len(self._labels)))

    def near(self) -> list[tuple[int, int]]:
        """:func:`near_duplicates` among the images that have a fingerprint, in their order."""
        return near_duplicates(np.frombuffer(self._prints, np.uint8).reshape(-1, 16))

    def classes(self, near: Sequence[tuple[int, int]]) -> dict[str, _ClassCount]:
        """The counts of each class."""
        combinations = list(self._labels)
        images, missing, added, repeated = (Counter[str]() for _ in range(4))
        for shown, count in self._shown.items():
            for counter, names in zip((images, missing, added), shown, strict=True):
                counter.update(dict.fromkeys(names, count))
        for _, again in near:
            repeated.update(combinations[self._printed[again]])
        counters = (images, missing, added, self._unseen, repeated)
        return {
            name: _ClassCount(*(counter[name] for counter in counters))
            for name in sorted({*images, *added, *self._unseen})
        }


@dataclass(frozen=True)
class GenerateSummary:
    """What a call of ``generate`` found and did.

    Attributes:
        folder: of the images.
        images: usable images, those in the manifest.
        generated: usable images that this call generated.
        reused: usable images that were there before.
        failed: images that failed in every attempt.
        rejected: reason -> images rejected by the whole job, earlier calls included.
        unlabelled: captions that were left out because they have no label.
        unused: images in the folder that are kept but not asked for.
        nothing_to_do: the job, or its shard, was finished before the call.
        missing: images that other shards have yet to generate.
        seconds: the call took.
        near: images that nearly repeat an earlier one.
        inspected: an inspector looked at each image.
        classes: class -> its counts, for classes that were asked for or found.
    """

    folder: Path
    images: int
    generated: int
    reused: int
    failed: int
    rejected: dict[str, int]
    unlabelled: int
    unused: int
    nothing_to_do: bool
    missing: int
    seconds: float
    near: int
    inspected: bool
    classes: dict[str, _ClassCount]

    @classmethod
    def of(cls, tally: Tally, **known: Any) -> GenerateSummary:
        """What ``tally`` has counted; ``known`` are the other attributes."""
        near = tally.near()
        return cls(
            images=tally.images,
            failed=tally.failed,
            rejected=dict(sorted(tally.rejected.items())),
            near=len(near),
            classes=tally.classes(near),
            **known,
        )

    def lines(self) -> list[str]:
        """The summary for a terminal."""
        manifest = self.folder / "images.jsonl"
        rate = self.generated / max(self.seconds, 1e-9)
        done = (
            f"generated {self.generated} images in {self.seconds:.1f} s ({rate:.1f} images/s), "
            f"{self.reused} reused"
        )
        if self.missing:
            lines = [
                f"{done}; this shard is complete, {self.missing} images of other shards are "
                f"missing: the last shard to finish writes {manifest}"
            ]
        elif self.nothing_to_do:
            lines = [f"nothing to generate: all {self.images} images are in {manifest}"]
        else:
            lines = [f"{done}; {self.images} are in {manifest}"]
        if self.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())
            lines.append(f"rejected and retried with the next seed: {reasons}")
        if self.failed:
            failures = self.folder / "failed.jsonl"
            lines.append(f"{self.failed} images failed in every attempt, see {failures}")
        if self.unlabelled:
            lines.append(f"{self.unlabelled} captions without a label were left out")
        if self.unused:
            lines.append(
                f"{self.unused} images of captions that are not asked for now are kept, see "
                f"{self.folder / 'unused.jsonl'}"
            )
        if self.near:
            lines.append(f"{self.near} images nearly repeat an earlier one; they are kept")
        if self.inspected or self.near:
            lines += self._table()
        return lines

    def _table(self) -> list[str]:
        columns = {"images": "images", "near": "near-duplicates"}
        if self.inspected:
            columns |= {"missing": "not found", "added": "found unasked", "rejected": "rejected"}
        width = max(map(len, (*self.classes, "class")))
        lines = [f"{'class':<{width}}" + "".join(f"  {title}" for title in columns.values())]
        for name, count in self.classes.items():
            cells = (f"  {getattr(count, key):{len(title)}}" for key, title in columns.items())
            lines.append(f"{name:<{width}}" + "".join(cells))
        return lines
