"""The modality gap on clouds whose gap is known."""

from __future__ import annotations

import numpy as np
import pytest

from t2ipal.metrics.gap import modality_gap


def cloud(n: int, shift: float, seed: int) -> np.ndarray:
    """n unit vectors [n, 16] around an axis; ``shift`` moves them along another."""
    array = 0.3 * np.random.default_rng(seed).normal(size=(n, 16))
    array[:, 0] += 1
    array[:, 1] += shift
    return array


def test_the_same_distribution_is_near_and_not_told_apart():
    pair = modality_gap({"a": cloud(300, 0, 1), "b": cloud(300, 0, 2)}).pairs[0]
    assert pair.distance < 0.1
    assert 0.4 < pair.probe_accuracy < 0.6


def test_a_shifted_distribution_is_far_and_told_apart():
    gap = modality_gap({"captions": cloud(300, 2, 1), "synthetic": cloud(300, 0.2, 2),
                        "real": cloud(200, 0, 3)})  # fmt: skip
    assert [(pair.first, pair.second) for pair in gap.pairs] == [
        ("captions", "synthetic"),
        ("captions", "real"),
        ("synthetic", "real"),
    ]
    _, far, near = gap.pairs
    assert far.distance > 3 * near.distance
    assert far.probe_accuracy > 0.97 > near.probe_accuracy
    assert far.items == 200  # as many of each, so chance is one half


def test_the_distance_is_that_of_normalised_centroids():
    a = np.array([[2.0, 0.0]] * 5)
    b = np.array([[0.0, 0.5]] * 5)
    assert modality_gap({"a": a, "b": b}).pairs[0].distance == pytest.approx(np.sqrt(2))


def test_the_map_keeps_apart_what_lies_apart():
    sets = {"a": cloud(300, 2.0, 1), "b": cloud(200, 0, 2), "c": cloud(200, 0, 3)}
    points = modality_gap(sets).points
    assert {name: cloud.shape for name, cloud in points.items()} == dict.fromkeys(sets, (150, 2))
    a, b, c = (points[name].mean(axis=0) for name in "abc")
    assert np.linalg.norm(a - b) > 5 * np.linalg.norm(b - c)
    # Distances in the map are at most those of the features: it is a projection.
    unit = {
        name: array / np.linalg.norm(array, axis=1, keepdims=True) for name, array in sets.items()
    }
    spread = max(np.linalg.norm(x - y) for x in unit["a"][:50] for y in unit["b"][:50])
    assert np.linalg.norm(a - b) <= spread


def test_unequal_sizes_do_not_lift_the_chance_level():
    pair = modality_gap({"a": cloud(1000, 0, 1), "b": cloud(100, 0, 2)}).pairs[0]
    assert pair.probe_accuracy < 0.65


def test_deterministic_and_limited():
    sets = {"a": cloud(80, 0.3, 1), "b": cloud(90, 0, 2)}
    first, second = modality_gap(sets, limit=50), modality_gap(sets, limit=50)
    assert first == second
    assert first.pairs[0].items == 50
    assert first.lines()[1].split()[:3] == ["a", "-", "b"]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": np.ones((9, 2))}, "at least two"),
        ({"a": np.ones((9, 2)), "b": np.ones((9, 3))}, "different width"),
        ({"a": np.ones((9, 2)), "b": np.ones((4, 2))}, "too few"),
        ({"a": np.ones((9, 2)), "b": np.zeros((9, 2))}, "b: a feature is zero"),
        ({"a": np.full((9, 2), np.nan), "b": np.ones((9, 2))}, "a: a feature is zero or not"),
    ],
)
def test_bad_features_are_refused(sets, message):
    with pytest.raises(ValueError, match=message):
        modality_gap(sets)
