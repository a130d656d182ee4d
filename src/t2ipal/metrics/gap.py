"""How far captions, synthetic images and real images lie apart in CLIP's space.

Two figures per pair of feature sets: the distance between the centroids of their normalised
features (the modality gap of Liang et al., "Mind the Gap", NeurIPS 2022, arXiv 2203.02053)
and the cross-validated accuracy of a linear probe that tells the two sets apart (0.5:
indistinguishable, 1: always told apart). T2I-PAL's claim is that synthetic images lie nearer to
real ones than captions do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_FOLDS = 5  # of the cross-validation
_SHOWN = 150  # points of a set on the map
_SEED = 0  # draws the items that the probe sees, and its folds


@dataclass(frozen=True)
class _PairGap:
    """The gap between two feature sets.

    Attributes:
        first, second: what the sets hold, for example ``"captions"`` and ``"real"``.
        distance: Euclidean distance of the centroids of L2-normalised features, in [0, 2].
        probe_accuracy: cross-validated accuracy of the probe on equally many items of each set.
        items: items of each set that the probe saw.
    """

    first: str
    second: str
    distance: float
    probe_accuracy: float
    items: int


@dataclass(frozen=True)
class ModalityGap:
    """The gaps of all pairs of feature sets, in the order the sets were given.

    Attributes:
        points: name of a set -> some of its items [n, 2] on the two directions in which the sets
            vary most together, to be drawn.
    """

    pairs: tuple[_PairGap, ...]
    points: dict[str, np.ndarray] = field(default_factory=dict, compare=False)

    def lines(self) -> list[str]:
        """A table for the terminal."""
        labels = [f"{pair.first} - {pair.second}" for pair in self.pairs]
        width = max([len("modality gap"), *map(len, labels)])
        table = [f"{'modality gap':<{width}}  {'centroids':>9}  {'told apart':>10}"]
        for label, pair in zip(labels, self.pairs, strict=True):
            table.append(
                f"{label:<{width}}  {pair.distance:>9.3f}  {100 * pair.probe_accuracy:>9.1f}%"
            )
        return table


def modality_gap(features: Mapping[str, np.ndarray], *, limit: int = 1000) -> ModalityGap:
    """Measure the gap of every pair of feature sets.

    Args:
        features: name of a set -> its global features [N, D]; normalised here.
        limit: most items of a set that the probe sees. Both sets of a pair give equally many, so
            chance is 0.5 whatever their sizes. Centroids use every item.

    Raises:
        ValueError: fewer than two sets, sets of different width, a set of too few
            items for the folds, or a feature that is zero or not finite.
    """
    if len(features) < 2:
        raise ValueError("a modality gap needs at least two feature sets")
    if len({array.shape[1] for array in features.values()}) != 1:
        shapes = {name: array.shape for name, array in features.items()}
        raise ValueError(f"feature sets of different width: {shapes}")
    unit = {name: _normalise(name, array) for name, array in features.items()}
    pairs = []
    for first, second in combinations(unit, 2):
        a, b = unit[first], unit[second]  # [Na, D], [Nb, D]
        items = min(len(a), len(b), limit)
        if items < _FOLDS:
            raise ValueError(f"{first} - {second}: {items} items are too few for {_FOLDS} folds")
        accuracy = _probe_accuracy(_sample(a, items), _sample(b, items))
        distance = float(np.linalg.norm(a.mean(0) - b.mean(0)))
        pairs.append(_PairGap(first, second, distance, accuracy, items))
    return ModalityGap(tuple(pairs), _map(unit, limit))


def _map(unit: Mapping[str, np.ndarray], limit: int) -> dict[str, np.ndarray]:
    """Points [n, 2] of each set: principal components of equally many items of each."""
    items = min(limit, *map(len, unit.values()))
    drawn = {name: _sample(array, items) for name, array in unit.items()}
    centre = np.mean([array.mean(axis=0) for array in drawn.values()], axis=0)  # [D]
    together = np.concatenate(list(drawn.values())) - centre
    plane = np.linalg.svd(together, full_matrices=False)[2][:2]  # [2, D]
    # The sign of a component is arbitrary: its largest entry is made positive.
    plane = plane * np.sign(plane[np.arange(len(plane)), np.abs(plane).argmax(axis=1)])[:, None]
    return {
        name: (_sample(array, min(items, _SHOWN)) - centre) @ plane.T
        for name, array in drawn.items()
    }


def _normalise(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    norms = np.linalg.norm(array, axis=1, keepdims=True)  # [N, 1]
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError(f"{name}: a feature is zero or not finite")
    unit: np.ndarray = array / norms
    return unit


def _sample(array: np.ndarray, items: int) -> np.ndarray:
    chosen = np.random.default_rng(_SEED).choice(len(array), items, replace=False)
    return array[np.sort(chosen)]


def _probe_accuracy(a: np.ndarray, b: np.ndarray) -> float:
    items = np.concatenate([a, b])  # [2n, D]
    origin = np.repeat([0, 1], [len(a), len(b)])  # [2n]
    # Unit vectors of a wide space differ by small numbers, which the penalty of an unscaled
    # logistic regression would hide: standardise each dimension inside every fold.
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    split = StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED)
    return float(cross_val_score(probe, items, origin, cv=split, scoring="accuracy").mean())
