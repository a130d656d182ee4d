"""What a call of ``generate`` found and did, in total and class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2ipal.generation.duplicates import near_duplicates
from t2ipal.generation.screening import UNSEEN
from t2ipal.generation.store import ImageRow


@dataclass(frozen=True)
class DrawnCount:
    """The drawings of one class.

    Attributes:
        drawn: kept drawings that should show it.
        missing: those of them in which an inspector does not see it.
        added: kept drawings in which an inspector sees it unasked.
        thrown: drawings thrown away because none of their labels, of which it is one, was seen.
        near: those of ``drawn`` that nearly repeat an earlier drawing.
    """

    drawn: int
    missing: int
    added: int
    thrown: int
    near: int


@dataclass(frozen=True)
class GenerateSummary:
    """What a call of ``generate`` found and did.

    ``images`` are usable and in the manifest: ``kept`` from before plus ``drawn`` now. ``failed``
    images have no usable drawing. ``rejected`` counts the thrown away drawings of the whole job by
    reason, earlier calls included. ``unlabelled`` captions were left out. ``nothing_to_do`` says
    that the job, or its shard, was finished before the call; ``missing`` images are for other
    shards to draw. ``near`` images nearly repeat an earlier one. ``inspected`` says that an
    inspector looked, ``classes`` counts by class.
    """

    folder: Path
    images: int
    drawn: int
    kept: int
    failed: int
    rejected: dict[str, int]
    unlabelled: int
    nothing_to_do: bool
    missing: int
    seconds: float
    near: int
    inspected: bool
    classes: dict[str, DrawnCount]

    def lines(self) -> list[str]:
        """The summary for a terminal."""
        manifest = self.folder / "images.jsonl"
        rate = self.drawn / max(self.seconds, 1e-9)
        if self.missing:
            lines = [
                f"drew {self.drawn} images in {self.seconds:.1f} s ({rate:.1f} images/s), all of "
                f"this shard; {self.missing} of other shards are missing: the last shard to end "
                f"writes {manifest}"
            ]
        elif self.nothing_to_do:
            lines = [f"nothing to draw: all {self.images} images are in {manifest}"]
        else:
            lines = [
                f"drew {self.drawn} images in {self.seconds:.1f} s ({rate:.1f} images/s), "
                f"kept {self.kept}; {self.images} are in {manifest}"
            ]
        if self.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())
            lines.append(f"thrown away and drawn again with the next seed: {reasons}")
        if self.failed:
            failures = self.folder / "failed.jsonl"
            lines.append(f"{self.failed} images failed in every attempt, see {failures}")
        if self.unlabelled:
            lines.append(f"{self.unlabelled} captions without a label were left out")
        if self.near:
            lines.append(f"{self.near} images nearly repeat an earlier one; they are kept")
        if self.inspected or self.near:
            lines += self._table()
        return lines

    def _table(self) -> list[str]:
        columns = {"drawn": "drawn", "near": "near-duplicates"}
        if self.inspected:
            columns |= {"missing": "not seen", "added": "seen unasked", "thrown": "thrown away"}
        width = max(map(len, (*self.classes, "class")))
        lines = [f"{'class':<{width}}" + "".join(f"  {title}" for title in columns.values())]
        for name, count in self.classes.items():
            cells = (f"  {getattr(count, key):{len(title)}}" for key, title in columns.items())
            lines.append(f"{name:<{width}}" + "".join(cells))
        return lines


def count_reasons(rows: Iterable[ImageRow]) -> dict[str, int]:
    """How many drawings were thrown away, by reason."""
    return dict(sorted(Counter(entry.reason for row in rows for entry in row.rejected).items()))


def count_classes(rows: Sequence[ImageRow]) -> tuple[dict[str, DrawnCount], int]:
    """The counts of each class that was asked for or seen, and all near-duplicates."""
    drawn, missing, added, thrown, near = (Counter[str]() for _ in range(5))
    for row in rows:
        if not row.failed:
            drawn.update(row.labels)
            missing.update(row.missing)
            added.update(row.added)
        for entry in row.rejected:
            if entry.reason == UNSEEN:
                thrown.update(row.labels)
    pairs = near_duplicates(rows)
    for _, row in pairs:
        near.update(row.labels)
    names = sorted({*drawn, *added, *thrown})
    counters = (drawn, missing, added, thrown, near)
    return {name: DrawnCount(*(counter[name] for counter in counters)) for name in names}, len(
        pairs
    )
