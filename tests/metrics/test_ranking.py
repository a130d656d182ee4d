"""The one average precision against scikit-learn's, ties and unknown labels included."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from t2ipal.metrics.ranking import Ranking, average_precision, mean_average_precision

ITEM = st.tuples(st.integers(0, 5), st.booleans())


@settings(max_examples=100, deadline=None)
@given(st.lists(ITEM, min_size=1, max_size=30))
def test_equals_scikit_learn_ties_included(items: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 3 for score, _ in items])
    present = np.array([label for _, label in items])
    found = Ranking.of(scores, present).average_precision()
    if not present.any():
        assert math.isnan(found)
        return
    expected = average_precision_score(present, scores)
    assert found == pytest.approx(expected, abs=1e-9)


def test_mean_leaves_out_unknown_labels_and_classes_nothing_shows() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(40, 5)).astype(np.float32)
    targets = generator.integers(-1, 2, size=(40, 5)).astype(np.int8)
    targets[:, 2] = np.minimum(targets[:, 2], 0)  # class 2 is never present
    expected = []
    for column in (0, 1, 3, 4):
        known = targets[:, column] >= 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expected.append(average_precision_score(targets[known, column], scores[known, column]))
    found = mean_average_precision(average_precision(scores, targets))
    assert found == pytest.approx(np.mean(expected), abs=1e-9)
    assert math.isnan(mean_average_precision(average_precision(np.zeros((3, 2)), np.zeros((3, 2)))))
