"""Quotas: no class keeps more than its share, and order decides nothing."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from t2ipal.captions.choose import choose_per_class
from t2ipal.captions.labelled import LabelledCaption


def caption(number: int, *labels: str) -> LabelledCaption:
    return LabelledCaption(str(number), f"caption {number}", labels, (), {})


ROWS = [
    *(caption(n, "person") for n in range(40)),
    *(caption(n, "person", "dog") for n in range(40, 52)),
    *(caption(n, "person", "dog", "boat") for n in range(52, 55)),
    caption(55),
]


def test_each_caption_is_filed_under_its_rarest_class() -> None:
    chosen = choose_per_class(ROWS, 5)
    assert Counter(len(row.labels) for row in chosen) == {1: 5, 2: 5, 3: 3}
    assert [int(row.id) for row in chosen] == sorted(int(row.id) for row in chosen)


def test_a_quota_above_all_counts_keeps_every_caption_with_a_label() -> None:
    assert choose_per_class(ROWS, 1000) == ROWS[:-1]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 9))
def test_order_decides_nothing_and_no_class_is_lost(seed: int, per_class: int) -> None:
    chosen = choose_per_class(ROWS, per_class, seed=seed)
    shuffled = ROWS.copy()
    random.Random(seed).shuffle(shuffled)
    again = choose_per_class(shuffled, per_class, seed=seed)
    assert {row.id for row in again} == {row.id for row in chosen}
    assert len(chosen) <= 3 * per_class
    assert {name for row in chosen for name in row.labels} == {"person", "dog", "boat"}


def test_another_seed_chooses_others() -> None:
    def ids(seed: int) -> set[str]:
        return {row.id for row in choose_per_class(ROWS, 5, seed=seed)}

    assert ids(1) != ids(2)


def test_co_occurrence_keeps_some_alone_and_gives_every_set_its_turn() -> None:
    rows = [
        *(caption(n, "dog") for n in range(20)),
        *(caption(n, "dog", "person") for n in range(20, 40)),
        *(caption(n, "dog", "boat") for n in range(40, 42)),
        caption(42, "boat", "dog", "person"),
        *(caption(n, "person") for n in range(50, 90)),
        *(caption(n, "boat") for n in range(100, 190)),
    ]
    chosen = choose_per_class(rows, 9, spread="co-occurrence")
    sets = Counter(tuple(sorted(row.labels)) for row in chosen if "dog" in row.labels)
    assert sets == {
        ("dog",): 3,
        ("dog", "person"): 3,
        ("boat", "dog"): 2,
        ("boat", "dog", "person"): 1,
    }
    assert sum(row.labels == ("person",) for row in chosen) == 9  # nothing else is filed there
    shuffled = random.Random(1).sample(rows, len(rows))
    again = choose_per_class(shuffled, 9, spread="co-occurrence")
    assert {row.id for row in again} == {row.id for row in chosen}


def test_a_class_that_is_never_alone_fills_its_share_with_others() -> None:
    rows = [caption(n, "dog", f"other {n % 3}") for n in range(30)]
    rows += [caption(100 + n, f"other {n % 3}") for n in range(60)]
    chosen = choose_per_class(rows, 6, spread="co-occurrence")
    assert sum("dog" in row.labels for row in chosen) >= 6
