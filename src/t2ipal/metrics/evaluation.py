"""Everything measured of scores against labels: mAP, F1 at a threshold and at top-k, calibration.

Targets are 1 (present), 0 (absent) or -1 (unknown); an unknown pair of image and class is left out
of every count. Average precision is that of :mod:`t2ipal.metrics.ranking`.

CF1 and OF1 follow the multi-label literature (Wang et al., "CNN-RNN", CVPR 2016; Chen et al.,
"ML-GCN", CVPR 2019): CP and CR average precision and recall over the classes and
CF1 = 2 CP CR / (CP + CR); OP, OR and OF1 pool the counts of all classes. CF1 is therefore not
scikit-learn's macro F1, which averages the F1 of each class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, computed_field
from pydantic.dataclasses import dataclass

from t2ipal.metrics.ranking import Ranking, mean_average_precision
from t2ipal.metrics.uncertainty import REPLICATES, bootstrap_map, calibration_error

TOP_K = 3
"""Tags per image in the "top-3" columns of the literature."""

Figure = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value, return_type=float | None),
]
"""A fraction in [0, 1], nan where undefined. JSON knows no nan, so null stands for it there, and
its keys are the abbreviations of the literature."""


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
    class_precision: Annotated[Figure, Field(alias="CP")]
    class_recall: Annotated[Figure, Field(alias="CR")]
    class_f1: Annotated[Figure, Field(alias="CF1")]
    overall_precision: Annotated[Figure, Field(alias="OP")]
    overall_recall: Annotated[Figure, Field(alias="OR")]
    overall_f1: Annotated[Figure, Field(alias="OF1")]


@dataclass(frozen=True)
class _ClassFigures:
    """AP of one class, and the numbers of images that show it and where it is unknown."""

    average_precision: Annotated[Figure, Field(alias="AP")]
    positives: int
    unknown: int


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of one score matrix [N, C]. Fractions in [0, 1]; nan where undefined.

    Attributes:
        images: number of images N.
        classes: the C classes by name, with AP and numbers of images of each.
        top_k: F1 with the k best classes of every image taken as its tags.
        threshold: F1 with a threshold per class, or None without thresholds.
        interval: ends of mAP's 95 % interval by the bootstrap over images; nan if not computed.
        eleven_points: mAP by VOC2007's own definition of AP.
        calibration_error: expected calibration error of the probabilities; nan without them.
        skipped: images beside the N that could not be read, and were left out as was asked.
    """

    images: int
    classes: dict[str, _ClassFigures]
    top_k: F1
    threshold: F1 | None
    interval: tuple[Figure, Figure]
    eleven_points: Figure
    calibration_error: Figure
    skipped: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The C classes."""
        return tuple(self.classes)

    @property
    def average_precision(self) -> tuple[float, ...]:
        """AP per class; nan for a class without a positive."""
        return tuple(row.average_precision for row in self.classes.values())

    @computed_field(alias="mAP")  # type: ignore[prop-decorator]  # mypy has no decorated properties
    @property
    def mean_average_precision(self) -> Figure:
        """mAP: mean over the classes that have a positive; nan when none has."""
        return mean_average_precision(self.average_precision)

    @property
    def without_positives(self) -> tuple[str, ...]:
        """The classes that mAP leaves out."""
        return tuple(name for name, row in self.classes.items() if row.positives == 0)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with mAP first; undefined figures are null."""
        row: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", by_alias=True)
        return {"mAP": row.pop("mAP"), **row}

    def lines(self) -> list[str]:
        """A table for the terminal: one line per class, then the means; figures in percent."""
        width = max([len("class"), *map(len, self.names)])
        table = [f"{'class':<{width}}  {'AP':>6}  {'positives':>9}  {'unknown':>7}"]
        for name, row in self.classes.items():
            ap = _percent(row.average_precision)
            table.append(f"{name:<{width}}  {ap:>6}  {row.positives:>9}  {row.unknown:>7}")
        counted = len(self.names) - len(self.without_positives)
        table.append(
            f"mAP {_percent(self.mean_average_precision)} "
            f"over {counted} of {len(self.names)} classes, {self.images} images"
            + (f"; {self.skipped} could not be read and are left out" if self.skipped else "")
        )
        for tags in (self.top_k, self.threshold):
            if tags:
                table.append(
                    f"{tags.rule}: CF1 {_percent(tags.class_f1)} "
                    f"(P {_percent(tags.class_precision)}, R {_percent(tags.class_recall)})  "
                    f"OF1 {_percent(tags.overall_f1)} "
                    f"(P {_percent(tags.overall_precision)}, R {_percent(tags.overall_recall)})"
                )
        low, high = map(_percent, self.interval)
        table.append(
            f"mAP {low} to {high} (95 %, bootstrap over images); by VOC2007's eleven points "
            f"{_percent(self.eleven_points)}; calibration error {_percent(self.calibration_error)}"
        )
        if self.without_positives:
            table.append("no positive image, left out of mAP: " + ", ".join(self.without_positives))
        return table


_ADAPTER = TypeAdapter(Evaluation)


def evaluate(
    scores: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    *,
    thresholds: float | Sequence[float] | np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    top_k: int = TOP_K,
    replicates: int = REPLICATES,
) -> Evaluation:
    """Measure scores [N, C] against targets [N, C] in {1, 0, -1} for the C classes ``names``.

    Args:
        thresholds: one number, or one per class: a class is predicted where its probability (its
            score, without probabilities) reaches it. Fit them on other images than these.
        probabilities: [N, C] calibrated ones of the same images.
        replicates: samples of the bootstrap; 0 leaves the interval out, which costs most.

    Raises:
        ValueError: shapes differ, a score is not finite, or a target is none of 1, 0, -1.

    Examples:
        >>> scores = np.array([[0.9, 0.2], [0.8, 0.7], [0.1, 0.6]])
        >>> targets = np.array([[1, 0], [0, 1], [1, -1]])
        >>> evaluate(scores, targets, ["cat", "dog"]).average_precision
        (0.8333333333333333, 1.0)
    """
    rankings = Ranking.per_class(scores, targets)
    if targets.shape[1] != len(names):
        raise ValueError(f"{targets.shape[1]} columns for {len(names)} class names")
    at_threshold = None
    if thresholds is not None:
        limits = np.asarray(thresholds, dtype=np.float64)
        if limits.shape not in ((), (len(names),)):
            raise ValueError(f"thresholds {limits.shape} for {len(names)} classes")
        values = scores if probabilities is None else probabilities
        at_threshold = f1_of(values >= limits, targets, "threshold")
    positives, unknown = (targets == 1).sum(0), (targets < 0).sum(0)
    nothing = (math.nan, math.nan)
    return Evaluation(
        images=len(targets),
        classes={
            name: _ClassFigures(rankings[c].average_precision(), int(positives[c]), int(unknown[c]))
            for c, name in enumerate(names)
        },
        top_k=f1_of(_top_k_decisions(scores, top_k), targets, f"top-{top_k}"),
        threshold=at_threshold,
        interval=bootstrap_map(scores, targets, replicates=replicates) if replicates else nothing,
        eleven_points=mean_average_precision([one.eleven_points() for one in rankings]),
        calibration_error=(
            math.nan if probabilities is None else calibration_error(probabilities, targets)
        ),
    )


def _top_k_decisions(scores: np.ndarray, k: int = TOP_K) -> np.ndarray:
    """The k best classes of every image. scores [N, C] -> bool [N, C]; ties go to the first class.

    With fewer than k classes all of them are taken.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # [N, k]
    decisions = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(decisions, best, True, axis=1)
    return decisions


def f1_of(decisions: np.ndarray, targets: np.ndarray, rule: str) -> F1:
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
    recall = _ratio(hits.sum(), positives.sum())
    return F1(rule, cp, cr, _harmonic(cp, cr), op, recall, _harmonic(op, recall))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
