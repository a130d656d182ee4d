"""Scores -> probabilities -> decisions, fitted on held-out generated images or on labelled ones.

:func:`fit_thresholds` gives each class a sigmoid of its score (Platt, "Probabilistic outputs for
support vector machines", 1999, with his smoothed targets) and the threshold with the best F1. A
class with too few held-out images takes the sigmoid and the threshold fitted on all classes pooled.
The probabilities are calibrated for images like the held-out ones: on photos they order and compare
tags, but their absolute level is only as right as the generated images are real.

:func:`refit` fits sigmoids and thresholds anew on a few labelled images, shrunk towards those there
are. With z the log-odds that a class has by its present sigmoid, the new one is sigmoid(a z + b).

1. One (a, b) for all classes, from all known pairs, by maximum a posteriori around (1, 0): what the
   images have in common, such as how real they are or how much they show.
2. Per class its own (a, b), by maximum a posteriori around the common one: with few examples it
   stays close to that. A class whose labels are all unknown keeps what it has.
3. The threshold moves towards the one of the best expected F1, which is 2 sum_tagged p / (n_tagged
   + sum p) for calibrated p (after Lipton et al., "Optimal Thresholding of Classifiers to Maximize
   F1 Measure", ECML 2014), the more the more images show the class. One that none shows keeps its
   threshold, which is a probability, so that it moves with the sigmoid.

A class whose sigmoid is flat, because its scores said nothing before, stays flat: only its base
rate is fitted.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from t2ipal.errors import UserError, listed

logger = logging.getLogger(__name__)

MIN_EXAMPLES = 5  # positives, and negatives, that a class needs for a fit of its own
_COMMON_WIDTHS = (0.5, 3.0)  # deviations of the prior of a and b, for all classes together
_OWN_WIDTHS = (0.25, 0.5)  # and of one class around them
_TRUST = 10  # with so many positives the threshold goes half of the way to its best place
_STEPS = 100


@dataclass(frozen=True)
class _Row:
    """The numbers of one class on disk."""

    threshold: float
    slope: float
    intercept: float
    shared: bool
    calibrated: bool = True


_ROWS = TypeAdapter(dict[str, _Row])
_LARGEST = 1e15  # products with scores are finite; fits of nearly equal scores are far below it
_COLUMNS = ("thresholds", "slopes", "intercepts", "shared", "calibrated")


@dataclass(frozen=True)
class Thresholds:
    """A sigmoid and a threshold per class, for scores [N, C] of the same model.

    Attributes:
        names: the C classes.
        thresholds: probabilities from which a class is a tag, in [0, 1].
        slopes, intercepts: probability = sigmoid(slope * score + intercept); slopes >= 0.
        shared: True for a class that had too few examples and took the pooled fit.
        calibrated: False for a class without any example, whose numbers are those of the others
            (:meth:`grown`); all True if omitted.
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    shared: tuple[bool, ...]
    calibrated: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not self.calibrated:
            object.__setattr__(self, "calibrated", (True,) * len(self.names))
        for field in _COLUMNS:
            if len(getattr(self, field)) != len(self.names):
                raise ValueError(f"{len(self.names)} names but {len(getattr(self, field))} {field}")
        numbers = (*self.thresholds, *self.slopes, *self.intercepts)
        if not all(abs(number) <= _LARGEST for number in numbers):  # NaN is not either
            raise ValueError("thresholds, slopes and intercepts must be finite, and at most 1e15")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError("a threshold is a probability, from 0 to 1")
        if min(self.slopes, default=0.0) < 0:
            raise ValueError("a negative slope would turn the order of the scores round")

    def grown(self, names: Sequence[str]) -> Thresholds:
        """With further classes of which there is no example; those that there are stay as they are.

        A further class takes medians of the calibrated others: their slope, the score that is even
        odds, and the score from which one is a tag. The scores of all classes are on one scale.
        """
        slopes, intercepts, limits = (
            np.array(column)[np.array(self.calibrated) & (np.array(self.slopes) > 0)]
            for column in (self.slopes, self.intercepts, self.thresholds)
        )
        if len(slopes):
            slope = float(np.median(slopes))
            intercept = -slope * float(np.median(-intercepts / slopes))
            cut = float(np.median((_logit(limits) - intercepts) / slopes))
            limit = float(_sigmoid(slope * cut + intercept))
        else:  # scores say nothing
            slope, intercept = 0.0, float(np.median(self.intercepts))
            limit = float(np.median(self.thresholds))
        new = (limit, slope, intercept, True, False)
        columns = (
            (*getattr(self, field), *[value] * len(names))
            for field, value in zip(_COLUMNS, new, strict=True)
        )
        return Thresholds((*self.names, *names), *columns)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Scores [..., C] -> probabilities [..., C] in [0, 1], one class at a time in order."""
        logits = np.asarray(scores, np.float64) * np.array(self.slopes) + np.array(self.intercepts)
        return _sigmoid(logits)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Scores [..., C] -> bool [..., C]: the probability reaches the threshold of its class."""
        return self.probabilities(scores) >= np.array(self.thresholds)

    def limits(self, threshold: float | Mapping[str, float] | None) -> np.ndarray:
        """The thresholds [C] with some replaced: by one for all, or by class name.

        Raises:
            UserError: a threshold is not from 0 to 1.
        """
        if threshold is None:
            threshold = {}
        if not isinstance(threshold, Mapping):
            threshold = dict.fromkeys(self.names, threshold)
        for name, value in threshold.items():
            if not 0 <= value <= 1:
                raise UserError(
                    f"a threshold is a probability, from 0 to 1; {value} ({name}) is not."
                )
        pairs = zip(self.names, self.thresholds, strict=True)
        return np.array([threshold.get(name, own) for name, own in pairs])

    def to_json(self) -> dict[str, Any]:
        """A JSON object: class name -> its numbers."""
        rows = itertools.starmap(_Row, zip(*(getattr(self, f) for f in _COLUMNS), strict=True))
        plain: dict[str, Any] = _ROWS.dump_python(dict(zip(self.names, rows, strict=True)))
        return plain

    @classmethod
    def from_json(cls, row: dict[str, Any], names: Sequence[str]) -> Thresholds:
        """The inverse of :meth:`to_json`, in the order of ``names``.

        Raises:
            UserError: an entry lacks a field or holds something else than numbers, or they are not
                those of ``names``.
        """
        try:
            # of JSON, because strictly a dataclass is made of nothing else
            found = _ROWS.validate_json(json.dumps(row), strict=True)
            if odd := sorted({*found} ^ {*names}):
                raise ValueError(f"{listed(odd)} is a class or has thresholds, but not both")
            rows = [astuple(found[name]) for name in names]
            return cls(tuple(names), *zip(*rows, strict=True))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"{where}: {first['msg']}" if where else first["msg"]
        except ValueError as error:
            reason = str(error)
        raise UserError(
            f"the thresholds of the model are damaged ({reason}); fit or save the model again."
        )


def fit_thresholds(
    scores: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    *,
    min_examples: int = MIN_EXAMPLES,
) -> Thresholds:
    """Fit sigmoids and thresholds on held-out scores [N, C] and targets [N, C] in {1, 0, -1}.

    Unknown pairs are left out. A class with fewer than ``min_examples`` positives or negatives, or
    whose scores fall where it is present, takes the fit of all classes pooled.

    Raises:
        ValueError: shapes differ or a score is not finite.
        UserError: no class has both a positive and a negative.

    Examples:
        >>> scores = np.array([[0.1], [0.2], [0.8], [0.9]])
        >>> targets = np.array([[0], [0], [1], [1]])
        >>> fitted = fit_thresholds(scores, targets, ["cat"], min_examples=2)
        >>> fitted.decide(scores)[:, 0].tolist()
        [False, False, True, True]
    """
    if scores.ndim != 2 or scores.shape != targets.shape or scores.shape[1] != len(names):
        raise ValueError(f"scores {scores.shape}, targets {targets.shape}, {len(names)} names")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    scores = scores.astype(np.float64)
    known = targets >= 0
    pooled_scores, pooled_truth = scores[known], targets[known] == 1
    if pooled_truth.all() or not pooled_truth.any():
        raise UserError(
            "thresholds need held-out images that show a class and others that do not; "
            "add captions that name some of the classes alone."
        )
    pooled_slope, pooled_intercept = _platt(pooled_scores, pooled_truth)
    if pooled_slope < 0:
        logger.warning("scores fall where classes are present; probabilities are the base rate")
        pooled_slope, pooled_intercept = 0.0, float(_logit(pooled_truth.mean()))
    pooled = (_best_threshold(pooled_scores, pooled_truth), pooled_slope, pooled_intercept, True)
    rows = []
    for c in range(len(names)):
        score, truth = scores[known[:, c], c], targets[known[:, c], c] == 1
        row = pooled
        if min(truth.sum(), (~truth).sum()) >= max(min_examples, 1):
            slope, intercept = _platt(score, truth)
            if slope >= 0:
                row = (_best_threshold(score, truth), slope, intercept, False)
        rows.append(row)
    limits, slopes, intercepts, shared = map(np.array, zip(*rows, strict=True))
    thresholds = _sigmoid(limits * slopes + intercepts)
    columns = (tuple(column.tolist()) for column in (thresholds, slopes, intercepts, shared))
    return Thresholds(tuple(names), *columns)


def refit(before: Thresholds, scores: np.ndarray, targets: np.ndarray) -> Thresholds:
    """New thresholds from scores [N, C] and targets [N, C] in {1, 0, -1}.

    A class with fewer than ``MIN_EXAMPLES`` positives or negatives counts as ``shared``; one with
    so many counts as ``calibrated``.

    Raises:
        ValueError: shapes differ.
    """
    if scores.shape != targets.shape or scores.shape[1] != len(before.names):
        raise ValueError(
            f"scores {scores.shape}, targets {targets.shape}, {len(before.names)} names"
        )
    slopes, intercepts = np.array(before.slopes), np.array(before.intercepts)
    z = scores.astype(np.float64) * slopes + intercepts
    known, truth = targets >= 0, targets == 1
    counted, positives = known.any(0), truth.sum(0)
    every = z[known][:, None], truth[known][:, None], np.ones((known.sum(), 1), bool)
    common = _fit(*every, (1.0, 0.0), _COMMON_WIDTHS)
    a, b = np.ones(len(slopes)), np.zeros(len(slopes))
    own = z[:, counted], truth[:, counted], known[:, counted]
    a[counted], b[counted] = _fit(*own, (common[0][0], common[1][0]), _OWN_WIDTHS)
    probabilities = _sigmoid(a * z + b)
    limits = np.array(before.thresholds)
    for c in np.flatnonzero(positives):
        best = _best_expected(probabilities[known[:, c], c])
        share = positives[c] / (positives[c] + _TRUST)
        limits[c] = _sigmoid(share * _logit(best) + (1 - share) * _logit(limits[c]))
    enough = np.minimum(positives, (targets == 0).sum(0)) >= MIN_EXAMPLES
    columns = (
        limits,
        a * slopes,
        a * intercepts + b,
        np.where(counted, ~enough, before.shared),
        enough | np.array(before.calibrated),
    )
    return Thresholds(before.names, *(tuple(column.tolist()) for column in columns))


def _platt(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of sigmoid(slope * score + intercept), by maximum likelihood.

    scores [N], truth bool [N] with both values. Targets are smoothed as in Platt's equation 7, to
    (n_pos + 1) / (n_pos + 2) and 1 / (n_neg + 2), so that separable scores give a finite slope.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and only fits need it

    positives, negatives = int(truth.sum()), int((~truth).sum())
    soft = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))  # [N]
    centre, spread = scores.mean(), scores.std()
    if spread == 0:
        return 0.0, float(_logit(soft.mean()))
    # A soft target t is the item twice: as a positive of weight t, as a negative of weight 1 - t.
    column = np.tile((scores - centre) / spread, 2)[:, None]  # [2N, 1]
    label = np.repeat([1, 0], len(scores))
    weight = np.concatenate([soft, 1 - soft])
    # C is so large that the penalty does not count; scikit-learn's way to drop it has changed.
    fit = LogisticRegression(C=1e9, tol=1e-8, max_iter=1000).fit(column, label, weight)
    slope = float(fit.coef_[0, 0]) / spread
    return slope, float(fit.intercept_[0]) - slope * centre


def _best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The threshold with the best F1 for ``scores >= threshold``.

    scores [N], truth bool [N] with a positive. It lies half-way between two neighbouring scores;
    of equally good ones the highest is taken, which tags least.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], np.cumsum(truth[order])  # [N], [N]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last item of each tie [T]
    hits, tagged = hit[last], last + 1
    f1 = 2 * hits / (tagged + truth.sum())  # [T]
    best = int(np.argmax(f1))  # the first maximum is the highest threshold
    lowest = float(ranked[last[best]])  # of the tagged scores
    if best + 1 == len(last):
        return lowest
    below = float(ranked[last[best + 1]])
    between = below + (lowest - below) / 2
    return between if between > below else lowest  # neighbouring floats have nothing between them


def _fit(
    z: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    centre: tuple[float, float],
    widths: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """a >= 0 and b [C] of sigmoid(a z + b) by Newton's method; z, truth, known [N, C].

    The log-posterior with normal priors around ``centre`` is concave, and steps are cut.
    """
    (a0, b0), (wa, wb) = centre, widths
    a, b = np.full(z.shape[1], float(a0)), np.full(z.shape[1], float(b0))
    for _ in range(_STEPS):
        p = _sigmoid(a * z + b)
        error, weight = (p - truth) * known, p * (1 - p) * known
        to_a, to_b = (error * z).sum(0) + (a - a0) / wa**2, error.sum(0) + (b - b0) / wb**2
        aa, bb = (weight * z * z).sum(0) + 1 / wa**2, weight.sum(0) + 1 / wb**2
        ab = (weight * z).sum(0)
        step_a = (bb * to_a - ab * to_b) / (aa * bb - ab * ab)
        step_b = (aa * to_b - ab * to_a) / (aa * bb - ab * ab)
        longest = np.maximum(np.abs(step_a) / 0.5, np.abs(step_b))
        cut = 1 / np.maximum(1, longest)
        a, b = np.maximum(a - cut * step_a, 0), b - cut * step_b
        if longest.max(initial=0) < 1e-8:
            break
    return a, b


def _best_expected(probabilities: np.ndarray) -> float:
    """The threshold of the best expected F1 for items with these calibrated probabilities [N]."""
    ranked = np.sort(probabilities)[::-1]
    f1 = 2 * ranked.cumsum() / (np.arange(1, len(ranked) + 1) + ranked.sum())
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    return float((ranked[best] + below) / 2)


def _sigmoid(logits: np.ndarray | float) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits))))  # without overflow


def _logit(probability: np.ndarray | float) -> np.ndarray:
    inside = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))
