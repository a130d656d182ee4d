"""A class-balanced choice of captions: what is generated for days should not be people alone.

In human captions a few classes, people above all, are nearly everywhere. Each caption is
filed under the rarest class it names, and a class keeps at most a given number, as TaI-DPT did for
NUS-WIDE (Guo et al., CVPR 2023). A common class keeps what it needs from the captions filed under
others, and its own slots go to captions that show it with little else.

Which of a class's captions are kept is left to chance, or to ``co-occurrence``: a share goes to
captions that name the class alone, the rest goes round among the sets of classes that captions name
together, so that a frequent pair does not crowd out the rare ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2ipal.files import sha256_text

if TYPE_CHECKING:
    from t2ipal.captions.labelled import LabelledCaption

SPREADS = ("chance", "co-occurrence")
ALONE = 3
"""One in this many of a class's captions names it alone, if there are enough of them."""


def choose_per_class(
    rows: Sequence[LabelledCaption],
    per_class: int,
    *,
    spread: str = "chance",
    seed: int = 0,
) -> list[LabelledCaption]:
    """At most ``per_class`` captions filed under each class, in the order of ``rows``.

    Captions that name no class are left out; ``spread`` is one of ``SPREADS``. Which ones of a
    class are kept depends on ``seed``, ids and texts alone, so that the same captions in another
    order give the same choice.

    Examples:
        >>> from t2ipal.captions.labelled import label_captions
        >>> rows = label_captions(["a dog", "two dogs", "a dog and a cat"], ["cat", "dog"])
        >>> [row.caption for row in choose_per_class(rows, 1)]
        ['two dogs', 'a dog and a cat']
    """
    counts = Counter(name for row in rows for name in row.labels)
    files: dict[str, list[LabelledCaption]] = defaultdict(list)
    for row in rows:
        if row.labels:
            files[min(row.labels, key=lambda name: (counts[name], name))].append(row)
    kept: set[tuple[str, str]] = set()
    for filed in files.values():
        filed.sort(key=lambda row: sha256_text("quota", str(seed), row.id, row.caption))
        if spread == "co-occurrence":
            filed = _spread_out(filed, per_class)
        kept.update((row.id, row.caption) for row in filed[:per_class])
    return [row for row in rows if row.labels and (row.id, row.caption) in kept]


def _spread_out(filed: Sequence[LabelledCaption], per_class: int) -> list[LabelledCaption]:
    """The captions of a class in the order in which they are to be kept."""
    alone = [row for row in filed if len(row.labels) == 1]
    share = -(-per_class // ALONE)
    first, rest = alone[:share], alone[share:]
    turns: Counter[frozenset[str]] = Counter()
    placed = []
    for place, row in enumerate(row for row in filed if len(row.labels) > 1):
        together = frozenset(row.labels)
        placed.append((turns[together], place, row))
        turns[together] += 1
    placed.sort(key=lambda entry: entry[:2])  # all sets once, then all twice, ...
    return [*first, *(row for _, _, row in placed), *rest]
