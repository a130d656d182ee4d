"""Metrics against scikit-learn, against slow oracles written from the definitions, and on ties."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from t2ipal.metrics.evaluation import Evaluation, _top_k_decisions, evaluate, f1_of
from t2ipal.metrics.ranking import average_precision, mean_average_precision

relaxed = settings(deadline=None, max_examples=50)  # a busy machine is no failure

NAMES = ("aeroplane", "bicycle", "cat")


@st.composite
def problems(
    draw: st.DrawFn, values: tuple[int, ...] = (-1, 0, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, C] with many ties, and targets [N, C]."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from((-2, -0.5, 0, 0.25, 3))))
    targets = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(values)))
    return scores, targets


def slow_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Sum over distinct scores s, from high to low, of (recall step) * precision at s."""
    total, before = 0.0, 0.0
    for limit in sorted(set(scores.tolist()), reverse=True):
        tagged = [bool(t) for s, t in zip(scores.tolist(), truth, strict=True) if s >= limit]
        recall, precision = sum(tagged) / truth.sum(), sum(tagged) / len(tagged)
        total += (recall - before) * precision
        before = recall
    return total


@relaxed
@given(problems())
def test_average_precision_is_the_definition_on_the_known_images(problem):
    scores, targets = problem
    result = average_precision(scores, targets)
    for c in range(targets.shape[1]):
        known = targets[:, c] != -1
        truth = targets[known, c]
        if truth.sum() == 0:
            assert math.isnan(result[c])
        else:
            assert result[c] == pytest.approx(
                slow_average_precision(scores[known, c], truth), abs=1e-12
            )
            assert result[c] == average_precision_score(truth, scores[known, c])


@relaxed
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_images_is_irrelevant_even_with_ties(problem, random):
    scores, targets = problem
    order = list(range(len(scores)))
    random.shuffle(order)
    np.testing.assert_array_equal(
        average_precision(scores, targets), average_precision(scores[order], targets[order])
    )


@relaxed
@given(problems())
def test_the_scores_of_unknown_pairs_are_irrelevant(problem):
    scores, targets = problem
    other = np.where(targets == -1, scores + 7, scores)  # only scores of unknown pairs change
    np.testing.assert_array_equal(
        average_precision(scores, targets), average_precision(other, targets)
    )


def test_a_worked_example():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    targets = np.array([[1], [0], [1], [-1]], dtype=np.int8)
    assert average_precision(scores, targets)[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_scores_outside_the_unit_interval_are_taken_as_they_are():
    scores = np.array([[120.0], [-3.0], [55.0]])
    targets = np.array([[1], [0], [1]], dtype=np.int8)
    assert average_precision(scores, targets)[0] == 1.0


def test_classes_without_positives_are_left_out_of_the_mean_and_named():
    scores = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.7]])
    targets = np.array([[1, 0, -1], [0, 0, -1]], dtype=np.int8)
    result = evaluate(scores, targets, NAMES)
    assert result.mean_average_precision == 1.0
    assert result.without_positives == ("bicycle", "cat")
    assert np.isnan(result.average_precision[1:]).all()
    assert [row.unknown for row in result.classes.values()] == [0, 0, 2]
    assert "bicycle, cat" in result.lines()[-1]
    assert math.isnan(mean_average_precision([math.nan]))


@relaxed
@given(problems(values=(0, 1)))
def test_f1_agrees_with_scikit_learn_where_they_define_the_same(problem):
    scores, targets = problem
    decisions = scores >= 0
    result = f1_of(decisions, targets, "threshold")
    with_positive = targets.any(0)
    pooled = targets.ravel(), decisions.ravel()
    assert result.overall_precision == pytest.approx(precision_score(*pooled, zero_division=0))
    assert result.overall_recall == pytest.approx(recall_score(*pooled, zero_division=0))
    assert result.overall_f1 == pytest.approx(f1_score(*pooled, zero_division=0))
    if not with_positive.any():
        assert math.isnan(result.class_f1)
        return
    cp = [
        precision_score(targets[:, c], decisions[:, c], zero_division=0)
        for c in np.flatnonzero(with_positive)
    ]
    cr = [recall_score(targets[:, c], decisions[:, c]) for c in np.flatnonzero(with_positive)]
    assert result.class_precision == pytest.approx(np.mean(cp))
    assert result.class_recall == pytest.approx(np.mean(cr))
    product, total = np.mean(cp) * np.mean(cr), np.mean(cp) + np.mean(cr)
    assert result.class_f1 == pytest.approx(2 * product / total if total else 0)


@relaxed
@given(problems())
def test_f1_counts_known_pairs_only(problem):
    scores, targets = problem
    decisions = scores >= 0
    known = targets != -1
    hits = sum(d and t == 1 for d, t in zip(decisions[known], targets[known], strict=True))
    predicted, positives = decisions[known].sum(), (targets == 1).sum()
    result = f1_of(decisions, targets, "threshold")
    assert result.overall_precision == (hits / predicted if predicted else 0)
    assert result.overall_recall == (hits / positives if positives else 0)


@relaxed
@given(problems(), st.integers(1, 5))
def test_top_k_takes_the_k_best_and_breaks_ties_by_class_order(problem, k):
    scores, _ = problem
    for row, decision in zip(scores, _top_k_decisions(scores, k), strict=True):
        best = sorted(range(len(row)), key=lambda c: (-row[c], c))[:k]
        assert np.flatnonzero(decision).tolist() == sorted(best)


def test_one_threshold_a_class_reaches_its_own_column():
    scores = np.array([[0.5, 0.5], [0.4, 0.9]], dtype=np.float32)
    targets = np.array([[1, 0], [0, 1]], dtype=np.int8)
    result = evaluate(scores, targets, ("a", "b"), thresholds=[0.5, 0.6])
    assert result.threshold is not None
    assert result.threshold.overall_f1 == 1.0
    assert evaluate(scores, targets, ("a", "b")).threshold is None


@relaxed
@given(problems(), st.booleans())
def test_an_evaluation_survives_json_without_nan(problem, with_threshold):
    scores, targets = problem
    names = NAMES[: targets.shape[1]] + ("dog",) * (targets.shape[1] - len(NAMES))
    given = {"thresholds": 0.0, "probabilities": scores > 0} if with_threshold else {}
    result = evaluate(scores, targets, names, replicates=3 * with_threshold, **given)
    text = json.dumps(result.to_json(), allow_nan=False)
    again = TypeAdapter(Evaluation).validate_json(text)
    assert repr(again) == repr(result)  # repr, because nan is not equal to itself


def test_the_table_has_a_line_a_class_and_figures_in_percent():
    scores = np.array([[0.9, 0.1], [0.1, 0.8], [0.5, 0.9]])
    targets = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.int8)
    table = evaluate(scores, targets, ("a", "b"), thresholds=0.5).lines()
    assert table[1].split() == ["a", "100.0", "2", "0"]
    assert table[2].split() == ["b", "50.0", "1", "0"]
    assert table[3] == "mAP 75.0 over 2 of 2 classes, 3 images"
    assert table[4].startswith("top-3: CF1") and table[5].startswith("threshold: CF1")
    assert "by VOC2007's eleven points 75.0; calibration error -" in table[6]


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), "must both be"),
        (np.zeros(3), np.zeros(3), "must both be"),
        (np.array([[0.0, np.nan]]), np.zeros((1, 2)), r"score \[0, 1\] is nan"),
        (np.zeros((1, 2)), np.array([[0, 2]]), "1 .present., 0 .absent. or -1"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "2 columns for 3"),
    ],
)
def test_bad_arrays_are_refused(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        evaluate(scores, targets, NAMES)


def test_thresholds_of_another_length_are_refused():
    with pytest.raises(ValueError, match="thresholds"):
        evaluate(np.zeros((1, 3)), np.zeros((1, 3)), NAMES, thresholds=[0.1, 0.2])


def test_a_tenth_of_nus_wide_is_quick():
    random = np.random.default_rng(0)
    scores = random.normal(size=(10_000, 81)).astype(np.float32)
    targets = random.choice(np.array([-1, 0, 1], np.int8), scores.shape, p=[0.05, 0.92, 0.03])
    start = time.process_time()
    evaluate(scores, targets, [str(c) for c in range(81)], thresholds=1.0, replicates=0)
    assert time.process_time() - start < 2
