"""What is measured of one trained method at one point with one seed, as kept in the journal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2ipal.metrics.evaluation import Evaluation, evaluate, mean_average_precision
from t2ipal.metrics.uncertainty import bootstrap_map, calibration_error, eleven_point
from t2ipal.tagger.thresholds import Thresholds


@dataclass(frozen=True)
class Measurement:
    """Figures of one score matrix, fractions in [0, 1]; nan where undefined.

    Attributes:
        point, seed: of the protocol.
        evaluation: mAP, AP of each class, F1 at thresholds (where there are any) and at top-3.
        interval: ends of mAP's 95 % interval by the bootstrap over images.
        eleven_points: mAP by VOC2007's own definition of AP.
        calibration_error: of the probabilities; nan without thresholds.
        epoch: that was kept, or None.
        real_images: which labelled images it was trained on, in words; empty for none.
    """

    point: str
    seed: int
    evaluation: Evaluation
    interval: tuple[float, float]
    eleven_points: float
    calibration_error: float
    epoch: int | None = None
    real_images: str = ""

    def to_json(self) -> dict[str, Any]:
        """A row of the journal."""
        return {
            "point": self.point,
            "seed": self.seed,
            "evaluation": self.evaluation.to_json(),
            "interval": [defined(end) for end in self.interval],
            "eleven_points": defined(self.eleven_points),
            "calibration_error": defined(self.calibration_error),
            "epoch": self.epoch,
            "real_images": self.real_images,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Measurement:
        """The inverse of :meth:`to_json`."""
        low, high = (math.nan if end is None else end for end in row["interval"])
        single = {key: row[key] for key in ("eleven_points", "calibration_error")}
        return cls(
            row["point"],
            row["seed"],
            Evaluation.from_json(row["evaluation"]),
            (low, high),
            **{key: math.nan if value is None else value for key, value in single.items()},
            epoch=row["epoch"],
            real_images=row["real_images"],
        )


def measure(
    point: str,
    seed: int,
    scores: np.ndarray,
    targets: np.ndarray,
    names: tuple[str, ...],
    thresholds: Thresholds | None,
    *,
    epoch: int | None = None,
    real_images: str = "",
) -> Measurement:
    """All figures of scores [N, C] against targets [N, C] in {1, 0, -1}.

    ``thresholds`` are those of the same method, fitted on other images; None where the classes are
    not those it was tuned on, and then nothing is said at a threshold.
    """
    limits = None if thresholds is None else np.array(thresholds.thresholds)
    error = math.nan
    if thresholds is not None:
        error = calibration_error(thresholds.probabilities(scores), targets)
    return Measurement(
        point,
        seed,
        evaluate(scores, targets, names, thresholds=limits),
        bootstrap_map(scores, targets),
        mean_average_precision(eleven_point(scores, targets)),
        error,
        epoch,
        real_images,
    )


def defined(value: float) -> float | None:
    """JSON knows no nan."""
    return None if math.isnan(value) else value
