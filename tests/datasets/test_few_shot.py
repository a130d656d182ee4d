"""Few-shot: every class gets its K images, few more are taken, and order decides nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2ipal.datasets.few_shot import choose_shots
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError

CLASSES = ["dog", "cat", "boat", "bus", "car"]


def images(targets: np.ndarray, first: int = 0) -> LabelledImages:
    files = tuple(Path(f"photos/{first + i}.jpg") for i in range(len(targets)))
    return LabelledImages("photos", files, targets.astype(np.int8), folder=Path("photos"))


def random_images(seed: int, count: int = 60) -> LabelledImages:
    """Classes of very different frequency, some labels unknown, at least 6 images of each."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((count, 5)) < [0.6, 0.3, 0.2, 0.1, 0.05]).astype(np.int8)
    targets[rng.random(targets.shape) < 0.2] = -1
    for index in range(5):
        targets[rng.choice(count, 6, replace=False), index] = 1
    return images(targets)


@given(st.integers(0, 30), st.integers(1, 6), st.integers(0, 3))
def test_every_class_has_its_shots_and_no_image_is_idle(data: int, shots: int, seed: int) -> None:
    pool = random_images(data)
    rows = choose_shots(pool, CLASSES, shots, seed)
    assert sorted(set(rows.tolist())) == rows.tolist()
    present = pool.targets[rows] == 1
    assert (present.sum(axis=0) >= shots).all()
    assert len(rows) <= 5 * shots
    assert present.any(axis=1).all()


@given(st.integers(0, 30), st.integers(0, 3), st.permutations(range(60)), st.permutations(range(5)))
def test_order_of_files_and_classes_does_not_matter(
    data: int, seed: int, rows: list[int], columns: list[int]
) -> None:
    pool = random_images(data)
    chosen = {pool.names[i] for i in choose_shots(pool, CLASSES, 3, seed)}
    shuffled = pool.take(rows)
    other = LabelledImages(
        "photos", shuffled.files, shuffled.targets[:, columns], folder=Path("photos")
    )
    again = choose_shots(other, [CLASSES[i] for i in columns], 3, seed)
    assert {other.names[i] for i in again} == chosen


def test_other_seeds_take_other_images() -> None:
    pool = random_images(0)
    sets = {tuple(choose_shots(pool, CLASSES, 2, seed).tolist()) for seed in range(8)}
    assert len(sets) > 4


def test_what_rare_classes_bring_along_is_used() -> None:
    """Every bus comes with a car, so no image is taken for the cars alone."""
    targets = np.zeros((40, 5))
    targets[:4, 3] = targets[:, 4] = 1
    targets[4:8, 0] = targets[8:12, 1] = targets[12:16, 2] = 1
    rows = choose_shots(images(targets), CLASSES, 2, 0)
    assert len(rows) == 8 and (rows < 16).all()


def test_an_unknown_label_is_no_example() -> None:
    targets = np.full((10, 5), -1)
    targets[:3] = 1
    assert choose_shots(images(targets), CLASSES, 3, 0).tolist() == [0, 1, 2]


def test_more_shots_than_images_names_the_class_and_the_number() -> None:
    targets = np.ones((9, 5))
    targets[2:, 2] = 0
    with pytest.raises(UserError) as error:
        choose_shots(images(targets), CLASSES, 4, 0)
    message = str(error.value)
    assert message.startswith("photos: class 'boat' is known to be in 2 of the 9 images, fewer")
    assert "lower shots to 2" in message and "more classes" not in message
    with pytest.raises(UserError, match=r"\(and 4 more classes have too few\); lower shots to 2"):
        choose_shots(images(targets), CLASSES, 10, 0)
    targets[:, 2] = -1
    with pytest.raises(UserError, match=r"'boat' is known to be in 0 of the 9 .*for; add labelled"):
        choose_shots(images(targets), CLASSES, 1, 0)


def test_no_shots_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        choose_shots(random_images(0), CLASSES, 0, 0)
