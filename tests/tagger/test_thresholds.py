"""Thresholds and probabilities against slow searches and known generating sigmoids."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from t2ipal.errors import UserError
from t2ipal.tagger.thresholds import Thresholds, _best_threshold, _platt, fit_thresholds

relaxed = settings(deadline=None, max_examples=50)  # a busy machine is no failure

NAMES = ("cat", "dog", "bus")


def held_out(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n, 3] and targets drawn with probability sigmoid(slope * score + intercept)."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(n, 3))
    logits = scores * [4.0, 2.0, 1.0] + [-1.0, 0.5, -2.0]
    return scores, (random.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(np.int8)


def test_the_sigmoids_that_made_the_labels_are_found():
    scores, targets = held_out()
    fitted = fit_thresholds(scores, targets, NAMES)
    np.testing.assert_allclose(fitted.slopes, [4.0, 2.0, 1.0], rtol=0.15)
    np.testing.assert_allclose(fitted.intercepts, [-1.0, 0.5, -2.0], atol=0.2)
    assert fitted.shared == (False, False, False)


def test_probabilities_are_calibrated_on_other_images():
    fitted = fit_thresholds(*held_out(seed=0), NAMES)
    scores, targets = held_out(seed=1)
    probabilities = fitted.probabilities(scores)
    for low in np.arange(0, 1, 0.2):
        inside = (probabilities >= low) & (probabilities < low + 0.2)
        assert abs(probabilities[inside].mean() - targets[inside].mean()) < 0.04


@relaxed
@given(st.lists(st.tuples(st.sampled_from((-1.0, 0.0, 0.1, 0.5, 2.0)), st.booleans()), min_size=1))
def test_no_threshold_has_a_better_f1(pairs):
    scores, truth = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs])
    if not truth.any():
        truth[0] = True
    found = f1_score(truth, scores >= _best_threshold(scores, truth))
    others = [f1_score(truth, scores >= limit) for limit in set(scores.tolist())]
    assert found == pytest.approx(max(others))


def test_the_threshold_lies_between_neighbours_even_between_adjacent_floats():
    assert _best_threshold(np.array([1.0, 3.0]), np.array([False, True])) == 2.0
    low = 1.0
    high = math.nextafter(low, 2)
    limit = _best_threshold(np.array([low, high]), np.array([False, True]))
    assert low < limit <= high


def test_separable_scores_give_a_finite_slope_and_keep_their_order():
    scores = np.linspace(-1, 1, 20)
    slope, intercept = _platt(scores, scores > 0)
    assert 0 < slope < 100 and math.isfinite(intercept)
    # Platt's smoothed targets: a perfect class does not become certain.
    top = 1 / (1 + math.exp(-(slope + intercept)))
    assert 0.8 < top < 0.9999


@relaxed
@given(st.floats(-100, 100), st.floats(0.01, 100))
def test_platt_follows_a_change_of_units(offset, unit):
    random = np.random.default_rng(3)
    scores = random.normal(size=200)
    truth = random.random(200) < 1 / (1 + np.exp(-2 * scores))
    slope, intercept = _platt(scores, truth)
    other_slope, other_intercept = _platt(scores * unit + offset, truth)
    np.testing.assert_allclose(
        other_slope * (scores * unit + offset) + other_intercept,
        slope * scores + intercept,
        atol=1e-3,
    )


def test_a_rare_class_and_a_backward_class_take_the_pooled_fit():
    scores, targets = held_out()
    targets[:, 1] = 0
    targets[:3, 1] = 1  # three positives only
    scores[:, 2] *= -1  # falls where the class is present
    fitted = fit_thresholds(scores, targets, NAMES, min_examples=5)
    assert fitted.shared == (False, True, True)
    assert fitted.slopes[1] == fitted.slopes[2] >= 0
    assert fitted.thresholds[1] == fitted.thresholds[2]


def test_unknown_pairs_are_left_out():
    scores, targets = held_out()
    hidden = np.random.default_rng(5).random(targets.shape) < 0.3
    garbage = np.where(hidden, 50.0, scores)
    masked = np.where(hidden, -1, targets)
    fitted = fit_thresholds(garbage, masked, NAMES)
    np.testing.assert_allclose(fitted.slopes, [4.0, 2.0, 1.0], rtol=0.2)


def test_worthless_scores_fall_back_to_the_base_rate():
    scores = np.tile([[1.0], [0.0]], (50, 1))
    targets = np.tile([[0], [1]], (50, 1)).astype(np.int8)
    fitted = fit_thresholds(scores, targets, ("cat",))
    np.testing.assert_allclose(fitted.probabilities(scores), 0.5)


def test_json_keeps_every_digit_and_decisions():
    scores, targets = held_out(200)
    fitted = fit_thresholds(scores, targets, NAMES)
    again = Thresholds.from_json(json.loads(json.dumps(fitted.to_json())), fitted.names)
    assert again == fitted
    assert fitted.to_json()["dog"] == {
        "threshold": fitted.thresholds[1],
        "slope": fitted.slopes[1],
        "intercept": fitted.intercepts[1],
        "shared": False,
        "calibrated": True,
    }
    np.testing.assert_array_equal(again.decide(scores), fitted.decide(scores))
    assert fitted.probabilities(np.array([1e6, -1e6, 0.0])).tolist()[:2] == [1.0, 0.0]


@relaxed
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20))
def test_probabilities_keep_the_order_of_scores(column):
    fitted = Thresholds(("cat",), (0.0,), (2.5,), (-0.5,), (False,))
    column = sorted(column)
    probabilities = fitted.probabilities(np.array(column)[:, None])[:, 0]
    assert (np.diff(probabilities) >= 0).all()


def test_thresholds_are_the_probabilities_of_the_scores_with_the_best_f1():
    scores, targets = held_out(500)
    fitted = fit_thresholds(scores, targets, NAMES)
    assert all(0 < limit < 1 for limit in fitted.thresholds)
    for c in range(3):
        best = _best_threshold(scores[:, c], targets[:, c] == 1)
        np.testing.assert_array_equal(fitted.decide(scores)[:, c], scores[:, c] >= best)


def test_thresholds_are_replaced_for_all_or_by_name():
    fitted = Thresholds(NAMES, (0.2, 0.5, 0.7), (1.0,) * 3, (0.0,) * 3, (False,) * 3)
    assert fitted.limits(None).tolist() == [0.2, 0.5, 0.7]
    assert fitted.limits(0.4).tolist() == [0.4] * 3
    assert fitted.limits({NAMES[1]: 0.9}).tolist() == [0.2, 0.9, 0.7]
    for bad in (1.5, -0.1, float("nan"), {NAMES[0]: 2}):
        with pytest.raises(UserError, match="from 0 to 1"):
            fitted.limits(bad)
    with pytest.raises(ValueError, match="a probability"):
        Thresholds(("cat",), (1.2,), (1.0,), (0.0,), (False,))


def test_nothing_but_a_fit_loads_scikit_learn():
    code = (
        "import sys, t2ipal.tagger.tagger as _; from t2ipal.tagger.thresholds import Thresholds; "
        "row = dict(threshold=0.5, slope=1.0, intercept=0.0, shared=False); "
        "Thresholds.from_json({'cat': row}, ['cat']); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "sklearn" not in loaded.stdout.split()


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="add captions"):
        fit_thresholds(np.zeros((4, 3)), np.zeros((4, 3), np.int8), NAMES)
    with pytest.raises(ValueError, match="3 names"):
        fit_thresholds(np.zeros((4, 2)), np.zeros((4, 2), np.int8), NAMES)
    with pytest.raises(ValueError, match="finite"):
        fit_thresholds(np.full((4, 3), np.inf), np.zeros((4, 3), np.int8), NAMES)
    with pytest.raises(UserError, match="damaged"):
        Thresholds.from_json({"cat": {"threshold": 0.1}}, ["cat"])
    with pytest.raises(UserError, match="damaged"):
        Thresholds.from_json({"cat": 3}, ["cat"])
    row = {"threshold": 0.1, "slope": -1.0, "intercept": 0.0, "shared": True}
    with pytest.raises(UserError, match=r"damaged \(a negative slope"):
        Thresholds.from_json({"cat": row}, ["cat"])
    with pytest.raises(UserError, match=r"damaged \(cat.slope: .*number"):
        Thresholds.from_json({"cat": {**row, "slope": "steep"}}, ["cat"])
    for wrong in ({"slope": 1e308}, {"intercept": 1e16}, {"threshold": float("nan")}):
        with pytest.raises(UserError, match=r"damaged \(thresholds, .* must be finite"):
            Thresholds.from_json({"cat": {**row, "slope": 1.0, **wrong}}, ["cat"])
    for wrong in ({"intercept": "1"}, {"shared": "no"}, {"calibrated": 1}, {"slope": True}):
        with pytest.raises(UserError, match=rf"damaged \(cat.{next(iter(wrong))}: .*valid"):
            Thresholds.from_json({"cat": {**row, **wrong}}, ["cat"])
    with pytest.raises(ValueError, match="order"):
        Thresholds(("cat",), (0.0,), (-1.0,), (0.0,), (False,))
    with pytest.raises(ValueError, match="names"):
        Thresholds(("cat",), (0.0, 1.0), (1.0,), (0.0,), (False,))
