"""Partial labels: which ones are kept, how many, and that nothing but names decides it."""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.partial import _label_mask, hide_labels

CLASSES = [f"class {i}" for i in range(20)]
IMAGES = [f"photos/{i:05}.jpg" for i in range(3000)]


def within(count: int, trials: int, fraction: float, deviations: float = 4.5) -> bool:
    """Whether a binomial count lies so near to its mean (of 3,000 counts 1 in 50 runs would not).

    The mask is fixed by its seed, so this holds always or never.
    """
    spread = math.sqrt(trials * fraction * (1 - fraction))
    return abs(count - trials * fraction) <= deviations * spread


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_it_hits_the_fraction_in_all_in_each_class_and_in_each_image(fraction: float) -> None:
    mask = _label_mask(IMAGES, CLASSES, fraction, seed=0)
    assert mask.shape == (3000, 20) and mask.dtype == bool
    assert within(int(mask.sum()), mask.size, fraction, 3)
    for column in mask.T:
        assert within(int(column.sum()), 3000, fraction)
    # Images vary as independent draws do, no more and no less: variance of the counts, +-10 %.
    variance = mask.sum(axis=1).var()
    assert variance == pytest.approx(20 * fraction * (1 - fraction), rel=0.1)


def test_labels_of_a_class_and_of_an_image_are_kept_independently() -> None:
    mask = _label_mask(IMAGES, CLASSES, 0.5, seed=3)
    for first in range(20):
        for second in range(first):
            both = int((mask[:, first] & mask[:, second]).sum())
            assert within(both, 3000, 0.25), (first, second)
    neighbours = (mask[1:] & mask[:-1]).sum(axis=0)
    assert all(within(int(both), 2999, 0.25) for both in neighbours)


@given(st.randoms(use_true_random=False), st.integers(0, 5), st.sampled_from([0.1, 0.3, 0.8]))
def test_it_is_a_function_of_seed_name_and_class(
    random: object, seed: int, fraction: float
) -> None:
    rows, columns = list(range(60)), list(range(20))
    random.shuffle(rows)  # type: ignore[attr-defined]
    random.shuffle(columns)  # type: ignore[attr-defined]
    rows, columns = rows[:40], columns[:15]
    whole = _label_mask(IMAGES[:60], CLASSES, fraction, seed)
    part = _label_mask([IMAGES[i] for i in rows], [CLASSES[i] for i in columns], fraction, seed)
    assert np.array_equal(part, whole[np.ix_(rows, columns)])


def test_other_seeds_keep_others_and_a_higher_fraction_keeps_more() -> None:
    masks = [_label_mask(IMAGES, CLASSES, 0.5, seed) for seed in (0, 1)]
    assert within(int((masks[0] == masks[1]).sum()), masks[0].size, 0.5)
    fewer, more = (_label_mask(IMAGES, CLASSES, f, 0) for f in (0.2, 0.4))
    assert not (fewer & ~more).any() and (more & ~fewer).any()
    assert _label_mask(IMAGES, CLASSES, 1.0, 0).all()


def slow_draw(seed: int, image: str, label: str) -> float:
    """The number of one label, in Python's own integers."""
    state = 0
    for kind, name in (("image", image), ("class", label)):
        state += int.from_bytes(sha256(f"{kind} {seed}\n{name}".encode()).digest()[:8], "big")
    state %= 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> shift)) * factor % 2**64
    return ((state ^ (state >> 31)) >> 11) / 2**53


def test_it_is_the_same_on_every_machine() -> None:
    """Written down once: another mask would change published figures."""
    images, classes = ["a.jpg", "b/c.jpg"], ["dog", "cat", "potted plant"]
    mask = _label_mask(images, classes, 0.5, seed=7)
    assert mask.tolist() == [[False, True, False], [True, False, False]]
    for fraction in (0.1, 0.77):
        mask = _label_mask(IMAGES[:50], CLASSES, fraction, seed=3)
        for row, image in enumerate(IMAGES[:50]):
            drawn = [slow_draw(3, image, label) < fraction for label in CLASSES]
            assert mask[row].tolist() == drawn


def labelled(folder: Path, names: list[str]) -> LabelledImages:
    targets = np.random.default_rng(0).integers(-1, 2, (len(names), 20)).astype(np.int8)
    return LabelledImages("photos", tuple(folder / name for name in names), targets, folder=folder)


def test_hidden_labels_become_unknown_and_unknown_ones_stay() -> None:
    images = labelled(Path("photos"), IMAGES[:200])
    hidden = hide_labels(images, CLASSES, 0.4, seed=1)
    kept = _label_mask(IMAGES[:200], CLASSES, 0.4, 1)
    assert hidden.targets.dtype == np.int8 and hidden.files == images.files
    assert (hidden.targets[~kept] == -1).all()
    assert np.array_equal(hidden.targets[kept], images.targets[kept])
    assert (images.targets >= 0).sum() > (hidden.targets >= 0).sum() > 0


def test_where_the_folder_lies_does_not_matter() -> None:
    here, there = (labelled(Path(p), IMAGES[:50]) for p in ("/data/voc", "elsewhere"))
    assert here.names == there.names == tuple(IMAGES[:50])
    masks = [hide_labels(images, CLASSES, 0.5, 0).targets for images in (here, there)]
    assert np.array_equal(*masks)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, math.nan])
def test_a_fraction_outside_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        _label_mask(IMAGES[:2], CLASSES, fraction, 0)
