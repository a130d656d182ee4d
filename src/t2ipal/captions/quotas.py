"""A class-balanced choice of captions: what is drawn for days should not be people alone.

In human captions a few classes, people above all, are nearly everywhere. Each caption is
filed under the rarest class it names, and a class keeps at most so many, as TaI-DPT did for
NUS-WIDE (Guo et al., CVPR 2023). A common class keeps what it needs from the captions filed under
others, and its own slots go to captions that show it with little else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.files import sha256_text


def choose_per_class(
    rows: Sequence[LabelledCaption], per_class: int, *, seed: int = 0
) -> list[LabelledCaption]:
    """At most ``per_class`` captions filed under each class, in the order of ``rows``.

    Captions that name no class are left out. Which ones of a class are kept depends on ``seed``,
    ids and texts alone, so that the same captions in another order give the same choice.
    """
    counts = Counter(name for row in rows for name in row.labels)
    files: dict[str, list[LabelledCaption]] = defaultdict(list)
    for row in rows:
        if row.labels:
            files[min(row.labels, key=lambda name: (counts[name], name))].append(row)
    kept: set[tuple[str, str]] = set()
    for filed in files.values():
        filed.sort(key=lambda row: sha256_text("quota", str(seed), row.id, row.caption))
        kept.update((row.id, row.caption) for row in filed[:per_class])
    return [row for row in rows if row.labels and (row.id, row.caption) in kept]
