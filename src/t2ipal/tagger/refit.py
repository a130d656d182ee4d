"""Sigmoids and thresholds fitted anew on a few labelled images, shrunk towards those there are.

With z the log-odds that a class has by its present sigmoid, the new one is sigmoid(a z + b).

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

import numpy as np

from t2ipal.tagger.thresholds import MIN_EXAMPLES, Thresholds

_COMMON_WIDTHS = (0.5, 3.0)  # deviations of the prior of a and b, for all classes together
_OWN_WIDTHS = (0.25, 0.5)  # and of one class around them
_TRUST = 10  # with so many positives the threshold goes half of the way to its best place
_STEPS = 100


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
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits))))


def _logit(probability: float) -> float:
    inside = min(max(probability, 1e-6), 1 - 1e-6)
    return float(np.log(inside / (1 - inside)))
