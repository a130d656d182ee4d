"""Bootstrap, calibration error and eleven-point AP against slow definitions and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from t2ipal.metrics.ranking import Ranking, average_precision
from t2ipal.metrics.uncertainty import BINS, bootstrap_map, calibration_error, reliability


def sample(seed: int, images: int = 60, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 12, (images, classes)) / 7.0  # ties
    return scores, generator.choice([1, 0, -1], (images, classes), p=[0.2, 0.6, 0.2])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_weighted_ap_is_scikit_learns_with_images_repeated(seed: int) -> None:
    scores, targets = sample(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(scores))
    found = Ranking.of(scores[:, 0], targets[:, 0]).average_precision(weights)
    known = targets[:, 0] >= 0
    repeated = np.repeat(np.flatnonzero(known), weights[known])
    if not (targets[repeated, 0] == 1).any():
        assert np.isnan(found)
        return
    expected = average_precision_score(targets[repeated, 0] == 1, scores[repeated, 0])
    assert found == pytest.approx(expected, abs=1e-12)


def coverage(present: tuple[float, ...], images: int, runs: int) -> float:
    """Share of samples whose 95 % interval holds the mAP of the population they come from."""
    generator = np.random.default_rng(1)
    population = generator.random((40_000, len(present))) < present
    scores = population * 1.2 + generator.normal(size=population.shape)
    targets = population.astype(int)
    truth = float(np.mean(average_precision(scores, targets)))
    covered = 0
    for run in range(runs):
        rows = np.random.default_rng(100 + run).integers(len(scores), size=images)
        low, high = bootstrap_map(scores[rows], targets[rows], replicates=100, seed=run)
        covered += low <= truth <= high
        assert 0 <= low < high <= 1
    return covered / runs


def test_the_interval_covers_what_another_sample_gives() -> None:
    # binomial(60, 0.95) has 99.9 % of its mass above 50
    assert coverage((0.3, 0.1, 0.5), images=300, runs=60) >= 51 / 60


def test_rare_classes_do_not_push_the_interval_above_the_truth() -> None:
    """Percentiles cover about a half here, as they count the upward bias of AP twice."""
    assert coverage((0.03,) * 8, images=1000, runs=30) >= 0.75


def test_the_interval_depends_on_the_seed_alone_and_is_nan_without_positives() -> None:
    scores, targets = sample(0)
    assert bootstrap_map(scores, targets, seed=3) == bootstrap_map(scores, targets, seed=3)
    assert bootstrap_map(scores, targets, seed=3) != bootstrap_map(scores, targets, seed=4)
    for empty in (np.zeros_like(targets), targets[:0]):
        assert all(np.isnan(bootstrap_map(scores[: len(empty)], empty)))


def test_eleven_points_by_hand() -> None:
    # ranks: hit, miss, hit, miss, miss, hit -> precision 1 to recall 1/3, 2/3 to 2/3, 1/2 to 1
    scores = np.array([[6.0], [5], [4], [3], [2], [1]])
    targets = np.array([[1], [0], [1], [0], [0], [1]])
    expected = (4 * 1 + 3 * (2 / 3) + 4 * (1 / 2)) / 11
    assert Ranking.of(scores[:, 0], targets[:, 0]).eleven_points() == pytest.approx(expected)
    assert np.isnan(Ranking.of(scores[:, 0], np.zeros(6)).eleven_points())


def test_calibration_error_equals_the_loop() -> None:
    generator = np.random.default_rng(0)
    probabilities, (_, targets) = generator.random((60, 4)), sample(5)
    pairs = [(p, t) for p, t in zip(probabilities.flat, targets.flat, strict=True) if t >= 0]
    expected = 0.0
    for place in range(BINS):
        inside = [(p, t) for p, t in pairs if place <= p * BINS < place + 1]
        if inside:
            said = sum(p for p, _ in inside) / len(inside)
            so = sum(t for _, t in inside) / len(inside)
            expected += abs(said - so) * len(inside) / len(pairs)
    assert calibration_error(probabilities, targets) == pytest.approx(expected)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([[1, 0]])) == 0
    assert np.isnan(calibration_error(np.ones((1, 1)), np.array([[-1]])))


def test_the_bins_of_the_reliability_diagram_give_the_calibration_error() -> None:
    generator = np.random.default_rng(5)
    probabilities = generator.random((60, 4))
    targets = (generator.random((60, 4)) < probabilities**2).astype(int)
    targets[generator.random((60, 4)) < 0.2] = -1
    bins = reliability(probabilities, targets)
    pairs = sum(count for _, _, count in bins)
    assert pairs == (targets >= 0).sum()
    error = sum(abs(said - true) * count for said, true, count in bins) / pairs
    assert error == pytest.approx(calibration_error(probabilities, targets))
    assert [said for said, _, _ in bins] == sorted(said for said, _, _ in bins)
    assert reliability(np.array([[0.99, 0.01]]), np.array([[1, -1]])) == [(0.99, 1.0, 1)]


def test_precision_at_a_recall_is_the_best_from_there_on() -> None:
    scores, targets = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0, 1, -1, 1, 1])
    # By rank, the unknown left out: wrong, right, right, right.
    ranking = Ranking.of(scores, targets)
    assert ranking.precision_at(np.array([0, 1 / 3, 1])).tolist() == [3 / 4, 3 / 4, 3 / 4]
    ranking = Ranking.of(scores, np.array([1, 0, 0, 1, 0]))
    assert ranking.precision_at(np.array([0, 0.5, 0.51, 1])).tolist() == [1, 1, 0.5, 0.5]
    assert np.isnan(Ranking.of(scores, np.zeros(5)).precision_at(np.array([0.5]))).all()
