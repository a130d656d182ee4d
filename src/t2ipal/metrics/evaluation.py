"""Multi-label metrics: average precision, F1 at a threshold and at top-k.

Targets are 1 (present), 0 (absent) or -1 (unknown). An unknown pair of image and class is left out
of every count; the image stays in for its other classes.

Average precision is the non-interpolated one, sum over ranks of (recall step * precision), as
scikit-learn computes it: tied scores count as one rank, so the order of the images is irrelevant.

CF1 and OF1 follow the multi-label literature (Wang et al., "CNN-RNN", CVPR 2016; Chen et al.,
"ML-GCN", CVPR 2019): CP and CR average precision and recall over the classes and
CF1 = 2 CP CR / (CP + CR); OP, OR and OF1 pool the counts of all classes. CF1 is therefore not
scikit-learn's macro F1, which averages the F1 of each class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOP_K = 3  # tags an image in the "top-3" columns of the literature


@dataclass(frozen=True)
class F1:
    """Precision, recall and F1 of yes/no decisions, all in [0, 1].

    Attributes:
        rule: how a decision was made, for example ``"threshold"`` or ``"top-3"``.
        class_precision, class_recall, class_f1: CP, CR and CF1, over the classes with a positive;
            a class never predicted has precision 0.
        overall_precision, overall_recall, overall_f1: OP, OR and OF1, over all known pairs.
    """

    rule: str
    class_precision: float
    class_recall: float
    class_f1: float
    overall_precision: float
    overall_recall: float
    overall_f1: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object under the abbreviations of the literature."""
        return {
            "rule": self.rule,
            "CP": _number(self.class_precision),
            "CR": _number(self.class_recall),
            "CF1": _number(self.class_f1),
            "OP": _number(self.overall_precision),
            "OR": _number(self.overall_recall),
            "OF1": _number(self.overall_f1),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> F1:
        """The inverse of :meth:`to_json`."""
        figures = (_float(row[key]) for key in ("CP", "CR", "CF1", "OP", "OR", "OF1"))
        return cls(row["rule"], *figures)


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of one score matrix. Fractions in [0, 1]; nan where undefined.

    Attributes:
        names: the C classes.
        images: number of images N.
        average_precision: per class; nan for a class without a positive.
        positives, unknown: number of images per class that show it / where it is unknown.
        top_k: F1 with the k best classes of every image taken as its tags.
        threshold: F1 with a threshold per class, or None when none was given.
    """

    names: tuple[str, ...]
    images: int
    average_precision: tuple[float, ...]
    positives: tuple[int, ...]
    unknown: tuple[int, ...]
    top_k: F1
    threshold: F1 | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.average_precision), len(self.positives), len(self.unknown)}
        if lengths != {len(self.names)}:
            raise ValueError(f"{len(self.names)} names for figures of {sorted(lengths)} classes")

    @property
    def mean_average_precision(self) -> float:
        """mAP: mean over the classes that have a positive; nan when none has."""
        return mean_average_precision(self.average_precision)

    @property
    def without_positives(self) -> tuple[str, ...]:
        """The classes that mAP leaves out."""
        pairs = zip(self.names, self.positives, strict=True)
        return tuple(name for name, count in pairs if count == 0)

    def to_json(self) -> dict[str, Any]:
        """A JSON object without NaN: undefined figures are null."""
        rows = zip(self.names, self.average_precision, self.positives, self.unknown, strict=True)
        return {
            "mAP": _number(self.mean_average_precision),
            "images": self.images,
            "top_k": self.top_k.to_json(),
            "threshold": self.threshold.to_json() if self.threshold else None,
            "classes": {
                name: {"AP": _number(ap), "positives": positives, "unknown": unknown}
                for name, ap, positives, unknown in rows
            },
            "without_positives": list(self.without_positives),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Evaluation:
        """The inverse of :meth:`to_json`."""
        classes = row["classes"]
        return cls(
            names=tuple(classes),
            images=row["images"],
            average_precision=tuple(_float(entry["AP"]) for entry in classes.values()),
            positives=tuple(entry["positives"] for entry in classes.values()),
            unknown=tuple(entry["unknown"] for entry in classes.values()),
            top_k=F1.from_json(row["top_k"]),
            threshold=F1.from_json(row["threshold"]) if row["threshold"] else None,
        )

    def lines(self) -> list[str]:
        """A table for the terminal: one line a class, then the means; figures in percent."""
        width = max([len("class"), *map(len, self.names)])
        table = [f"{'class':<{width}}  {'AP':>6}  {'positives':>9}  {'unknown':>7}"]
        rows = zip(self.names, self.average_precision, self.positives, self.unknown, strict=True)
        for name, ap, positives, unknown in rows:
            table.append(f"{name:<{width}}  {_percent(ap):>6}  {positives:>9}  {unknown:>7}")
        counted = len(self.names) - len(self.without_positives)
        table.append(
            f"mAP {_percent(self.mean_average_precision)} "
            f"over {counted} of {len(self.names)} classes, {self.images} images"
        )
        for tags in (self.top_k, self.threshold):
            if tags:
                table.append(
                    f"{tags.rule}: CF1 {_percent(tags.class_f1)} "
                    f"(P {_percent(tags.class_precision)}, R {_percent(tags.class_recall)})  "
                    f"OF1 {_percent(tags.overall_f1)} "
                    f"(P {_percent(tags.overall_precision)}, R {_percent(tags.overall_recall)})"
                )
        if self.without_positives:
            table.append("no positive image, left out of mAP: " + ", ".join(self.without_positives))
        return table


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Average precision per class. scores [N, C], targets [N, C] in {1, 0, -1} -> [C] float64.

    nan for a class without a positive.

    Raises:
        ValueError: shapes differ, a score is not finite, or a target is none of 1, 0, -1.
    """
    _check(scores, targets)
    result = np.full(targets.shape[1], np.nan)
    for c in range(targets.shape[1]):
        known = targets[:, c] >= 0  # [N]
        truth, score = targets[known, c], scores[known, c]
        if truth.any():
            result[c] = _average_precision(truth, score)
    return result


def _average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """AP of one class [n] with a positive: to the last bit what scikit-learn gives, with one sort
    and without its checks."""
    order = np.argsort(-score)  # the order among equal scores does not matter
    ranked = score[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = truth[order].cumsum(dtype=np.int64)[ends]
    # From the last rank to the first, as scikit-learn sums.
    recall = np.append((hits / hits[-1])[::-1], 0.0)
    precision = (hits / (ends + 1))[::-1]
    return float(-np.sum(np.diff(recall) * precision))


def mean_average_precision(per_class: Sequence[float] | np.ndarray) -> float:
    """Mean of the defined entries of ``per_class`` [C]; nan when there is none."""
    values = np.asarray(per_class, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def top_k_decisions(scores: np.ndarray, k: int = TOP_K) -> np.ndarray:
    """The k best classes of every image. scores [N, C] -> bool [N, C]; ties go to the first class.

    With fewer than k classes all of them are taken.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # [N, k]
    decisions = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(decisions, best, True, axis=1)
    return decisions


def f1(decisions: np.ndarray, targets: np.ndarray, rule: str) -> F1:
    """CP, CR, CF1, OP, OR, OF1 of decisions bool [N, C] against targets [N, C] in {1, 0, -1}.

    A ratio without a denominator (nothing predicted, nothing present) is 0, as is the F1 of two
    zeros; with no positive at all the class averages are nan.
    """
    if decisions.shape != targets.shape:
        raise ValueError(f"decisions {decisions.shape} and targets {targets.shape} differ in shape")
    present = targets == 1
    hits = (decisions & present).sum(0)  # [C]
    predicted = (decisions & (targets >= 0)).sum(0)  # [C]
    positives = present.sum(0)  # [C]
    counted = positives > 0
    if counted.any():
        precision = hits[counted] / np.maximum(predicted[counted], 1)
        cp, cr = float(precision.mean()), float((hits[counted] / positives[counted]).mean())
    else:
        cp = cr = math.nan
    op = _ratio(hits.sum(), predicted.sum())
    overall_recall = _ratio(hits.sum(), positives.sum())
    return F1(
        rule=rule,
        class_precision=cp,
        class_recall=cr,
        class_f1=_harmonic(cp, cr),
        overall_precision=op,
        overall_recall=overall_recall,
        overall_f1=_harmonic(op, overall_recall),
    )


def evaluate(
    scores: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    *,
    thresholds: float | Sequence[float] | np.ndarray | None = None,
    top_k: int = TOP_K,
) -> Evaluation:
    """Measure scores [N, C] against targets [N, C] in {1, 0, -1} for the C classes ``names``.

    ``thresholds`` (one number or one a class): a class is predicted where its score reaches its
    threshold. Thresholds belong to the scores, so fit them on other images than these.

    Raises:
        ValueError: shapes differ, a score is not finite, or a target is none of 1, 0, -1.

    Examples:
        >>> scores = np.array([[0.9, 0.2], [0.8, 0.7], [0.1, 0.6]])
        >>> targets = np.array([[1, 0], [0, 1], [1, -1]])
        >>> evaluate(scores, targets, ["cat", "dog"]).average_precision
        (0.8333333333333333, 1.0)
    """
    _check(scores, targets)
    if targets.shape[1] != len(names):
        raise ValueError(f"{targets.shape[1]} columns for {len(names)} class names")
    at_threshold = None
    if thresholds is not None:
        limits = np.asarray(thresholds, dtype=np.float64)
        if limits.shape not in ((), (len(names),)):
            raise ValueError(f"thresholds {limits.shape} for {len(names)} classes")
        at_threshold = f1(scores >= limits, targets, "threshold")
    return Evaluation(
        names=tuple(names),
        images=len(targets),
        average_precision=tuple(average_precision(scores, targets).tolist()),
        positives=tuple((targets == 1).sum(0).tolist()),
        unknown=tuple((targets < 0).sum(0).tolist()),
        top_k=f1(top_k_decisions(scores, top_k), targets, f"top-{top_k}"),
        threshold=at_threshold,
    )


def _check(scores: np.ndarray, targets: np.ndarray) -> None:
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise ValueError(f"scores {scores.shape} and targets {targets.shape} must both be [N, C]")
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(f"score [{row}, {column}] is {scores[row, column]}, not a finite number")
    if not np.isin(targets, (-1, 0, 1)).all():
        raise ValueError("targets must be 1 (present), 0 (absent) or -1 (unknown)")


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
