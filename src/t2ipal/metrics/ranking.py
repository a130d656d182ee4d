"""Average precision: how well the images that show a class are ranked before the others.

The one implementation, which training, evaluation and the bootstrap share. It is the
non-interpolated one, the sum over ranks of (recall step * precision), as scikit-learn computes it:
tied scores count as one rank, so the order of the images is irrelevant.

Targets are 1 (present), 0 (absent) or -1 (unknown). An unknown pair of image and class is left out
of every count; the image stays in for its other classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Ranking:
    """The n images whose label of one class is known, by falling score.

    Attributes:
        rows: [n] their rows among all images.
        present: [n] 1 where the class is present, else 0.
        ends: [T] the last rank of each group of equal scores.
    """

    rows: np.ndarray
    present: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, labels: np.ndarray) -> Ranking:
        """Rank the scores [N] of one class, labels [N] in {1, 0, -1}."""
        rows = np.flatnonzero(labels >= 0)
        rows = rows[np.argsort(-scores[rows])]  # the order among equal scores does not matter
        ranked = scores[rows]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(rows) else rows
        return cls(rows, labels[rows].astype(np.int64), ends)

    @classmethod
    def per_class(cls, scores: np.ndarray, targets: np.ndarray) -> list[Ranking]:
        """A ranking for each of C classes. scores [N, C], targets [N, C] in {1, 0, -1}.

        Raises:
            ValueError: shapes differ, a score is not finite, or a target is none of 1, 0, -1.
        """
        if scores.ndim != 2 or scores.shape != targets.shape:
            raise ValueError(
                f"scores {scores.shape} and targets {targets.shape} must both be [N, C]"
            )
        if not np.isfinite(scores).all():
            row, column = np.argwhere(~np.isfinite(scores))[0]
            raise ValueError(
                f"score [{row}, {column}] is {scores[row, column]}, not a finite number"
            )
        if not np.isin(targets, (-1, 0, 1)).all():
            raise ValueError("targets must be 1 (present), 0 (absent) or -1 (unknown)")
        return [cls.of(column, labels) for column, labels in zip(scores.T, targets.T, strict=True)]

    def average_precision(self, weights: np.ndarray | None = None) -> float:
        """AP, to the last bit what scikit-learn gives; nan without a positive.

        Args:
            weights: [N] how often each image counts, a whole number; once if omitted.
        """
        if weights is None:
            hits, seen = self.present.cumsum()[self.ends], self.ends + 1  # [T], [T]
        else:
            counts = weights[self.rows]
            hits, seen = (counts * self.present).cumsum()[self.ends], counts.cumsum()[self.ends]
        if not len(hits) or hits[-1] == 0:
            return math.nan
        # From the last rank to the first, as scikit-learn sums.
        recall = np.append((hits / hits[-1])[::-1], 0.0)
        precision = (hits / np.maximum(seen, 1))[::-1]
        return float(-np.sum(np.diff(recall) * precision))

    def eleven_points(self) -> float:
        """VOC2007's own AP: mean over recalls 0, 0.1, .. 1 of the best precision from there on.

        The challenge used it until 2009; nan without a positive.
        """
        return float(np.mean(self.precision_at(np.linspace(0, 1, 11))))

    def precision_at(self, recalls: np.ndarray) -> np.ndarray:
        """The best precision at each recall [R] or above: [R]; nan without a positive."""
        hits = self.present.cumsum()[self.ends]
        if not len(hits) or hits[-1] == 0:
            return np.full(len(recalls), math.nan)
        precision, recall = hits / (self.ends + 1), hits / hits[-1]
        best = [precision[recall >= level - 1e-12].max(initial=0.0) for level in recalls]
        return np.array(best)


def chance_level(targets: np.ndarray) -> float:
    """The AP that 95 of 100 random orders stay below. targets [N] in {1, 0, -1}; nan without a 1.

    Random orders are drawn with a fixed seed. Of few images, or many positives, it is high.
    """
    known, positives = int((targets >= 0).sum()), int((targets == 1).sum())
    if not positives:
        return math.nan
    orders = np.random.default_rng(0).random((200, known)).argsort(axis=1)
    ranks = np.sort(orders[:, :positives], axis=1) + 1  # of the positives
    return float(np.quantile((np.arange(1, positives + 1) / ranks).mean(axis=1), 0.95))


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Average precision per class. scores [N, C], targets [N, C] in {1, 0, -1} -> [C] float64.

    nan for a class without a positive.

    Raises:
        ValueError: shapes differ, a score is not finite, or a target is none of 1, 0, -1.
    """
    return np.array([one.average_precision() for one in Ranking.per_class(scores, targets)])


def mean_average_precision(per_class: Sequence[float] | np.ndarray) -> float:
    """mAP: mean of the defined entries of ``per_class`` [C]; nan when there is none."""
    values = np.asarray(per_class, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan
