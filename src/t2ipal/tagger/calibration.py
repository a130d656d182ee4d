"""A tagger's probabilities and thresholds calibrated on some labelled images, and how sure that is.

The fit is :func:`t2ipal.tagger.thresholds.refit`. What it is worth is measured by cross-validation:
the figures after it are of images that it was not fitted on. Those of classes that few images show
are rather too low, as each of the fits has still fewer of them. Intervals are by the bootstrap over
images (of those out-of-fold decisions for F1, of fits anew for thresholds); they tell how another
sample of such images would move a figure.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t2ipal.errors import UserError, listed
from t2ipal.files.broken import Broken
from t2ipal.metrics.evaluation import f1_of
from t2ipal.metrics.uncertainty import calibration_error
from t2ipal.tagger.thresholds import MIN_EXAMPLES, Thresholds, refit
from t2ipal.vocabulary import UNKNOWN

if TYPE_CHECKING:
    from t2ipal.tagger.tagger import Tagger

log = logging.getLogger(__name__)

LEAST_IMAGES = 10
_FOLDS = 5
_REPLICATES = 200
_KEY = "calibration"

_Interval = tuple[float, float]


@dataclass(frozen=True)
class _ClassCalibration:
    """What calibration did to one class; F1 is of images that were not fitted on, nan without any.

    Attributes:
        positives, negatives: images where it is known to be present, and absent.
        threshold, interval: the new threshold, and its 95 % interval.
        f1_before, f1, f1_interval: F1 before, F1 after, and the 95 % interval of the latter.
    """

    positives: int
    negatives: int
    threshold: float
    interval: _Interval
    f1_before: float
    f1: float
    f1_interval: _Interval


@dataclass(frozen=True)
class _Figure:
    """A figure before and after, and the 95 % interval of the difference; fractions."""

    before: float
    after: float
    change: _Interval


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibrated tagger and how sure one can be of it.

    Attributes:
        tagger: the tagger, with its former thresholds kept in ``about``.
        source: which labelled images, in words.
        images: how many.
        figures: CF1, OF1 and calibration error, cross-validated.
        classes: the classes about which the labels say something.
    """

    tagger: Tagger
    source: str
    images: int
    figures: dict[str, _Figure]
    classes: dict[str, _ClassCalibration]

    def lines(self) -> list[str]:
        """A table for the terminal: one line per class with an example, then the means; percent."""
        shown = {name: row for name, row in self.classes.items() if row.positives}
        width = max(map(len, ("class", *shown)))
        table = [f"{'class':<{width}}  positives  threshold (95 %)      F1 before  after (95 %)"]
        for name, row in shown.items():
            low, high = row.interval
            f1s = [_percent(value) for value in (row.f1_before, row.f1, *row.f1_interval)]
            table.append(
                f"{name:<{width}}  {row.positives:>9}  "
                f"{row.threshold:9.2f} ({low:.2f} to {high:.2f})  "
                f"{f1s[0]:>9}  {f1s[1]:>5} ({f1s[2]} to {f1s[3]})"
                + "  few images"
                * (min(row.positives, row.negatives) < MIN_EXAMPLES)
            )
        for key, figure in self.figures.items():
            low, high = figure.change
            table.append(
                f"{key} {_percent(figure.before)} before, {_percent(figure.after)} after; "
                f"change {100 * low:+.1f} to {100 * high:+.1f} (95 %)"
            )
        table.append(
            f"cross-validated on {self.images} images: each is evaluated by a fit to the others"
        )
        unseen = [name for name, row in self.classes.items() if not row.positives]
        kept = [name for name in self.tagger.names if name not in self.classes]
        if unseen:
            table.append(f"no image shows {listed(unseen)}: moved with the others")
        if kept:
            table.append(f"no label says anything of {listed(kept)}: left as they were")
        unsure = [key for key in ("CF1", "OF1") if self.figures[key].change[0] <= 0]
        if unsure:
            table.append(
                f"these images do not show that tags are better by {' and '.join(unsure)}: the "
                "interval of the change reaches below 0; more images would tell"
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """A JSON object; undefined figures are null."""

        def defined(row: _Figure | _ClassCalibration) -> dict[str, Any]:
            text = json.dumps(vars(row)).replace("NaN", "null")
            return dict(json.loads(text))

        return {
            "on": self.source,
            "images": self.images,
            **{key: defined(figure) for key, figure in self.figures.items()},
            "classes": {name: defined(row) for name, row in self.classes.items()},
        }


def calibrate(
    tagger: Tagger | str | Path,
    data: str | Path,
    *,
    classes: Sequence[str] = (),
    images: str | Path | None = None,
    cache: str | Path = "features",
    broken: Broken | None = None,
    say: Callable[[str], None] = log.info,
    progress: bool = True,
) -> Calibration:
    """Fit probabilities and thresholds of a tagger anew on some labelled images; 20 say something.

    Args:
        tagger: the tagger, or its folder.
        data: labelled images, as :func:`t2ipal.evaluate` takes them.
        classes: those that the labels are about, the others keep what they have; all of the data's
            if omitted.
        images: folder of the images of a COCO JSON, if it cannot be guessed.
        cache: folder of the feature cache.
        broken: told of images that cannot be read, which are an error if omitted.
        say: told what was read, and what was left out.
        progress: show progress bars.

    Returns:
        The calibrated tagger, its figures before and after, and how sure they are.

    Raises:
        UserError: bad labels, a missing image, too few images, or no model.
    """
    from t2ipal.tagger.scoring import labelled_scores
    from t2ipal.tagger.tagger import Tagger

    if not isinstance(tagger, Tagger):
        tagger = Tagger.from_pretrained(tagger)
    labelled, scores = labelled_scores(
        tagger,
        data,
        images=images,
        cache=cache,
        broken=Broken() if broken is None else broken,
        say=say,
        progress=progress,
    )
    chosen = [tagger.vocabulary.meant(name) for name in classes] or range(len(tagger.names))
    targets = np.full_like(labelled.targets, UNKNOWN)
    targets[:, chosen] = labelled.targets[:, chosen]
    return calibrated(tagger, scores, targets, labelled.source)


def calibrated(tagger: Tagger, scores: np.ndarray, targets: np.ndarray, source: str) -> Calibration:
    """Calibrate on scores [N, C] and targets [N, C]; always from the first thresholds on.

    Raises:
        UserError: there are too few images, or none shows a class.
    """
    before = _first_thresholds(tagger)
    count = len(scores)
    if count < LEAST_IMAGES or not (targets == 1).any():
        raise UserError(
            f"{source}: {count} labelled images, {int((targets == 1).any(axis=1).sum())} of which "
            f"show a class, are too few to calibrate on; give {LEAST_IMAGES} or more, better 100."
        )
    generator = np.random.default_rng(0)
    after = refit(before, scores, targets)
    old, new = before.probabilities(scores), np.empty(scores.shape)
    tagged_old, tagged = before.decide(scores), np.empty(scores.shape, bool)
    for fold in np.array_split(generator.permutation(count), _FOLDS):
        rest = np.setdiff1d(np.arange(count), fold)
        by_others = refit(before, scores[rest], targets[rest])
        new[fold] = by_others.probabilities(scores[fold])
        tagged[fold] = by_others.decide(scores[fold])
    samples = generator.integers(count, size=(_REPLICATES, count))
    figures = _figures((old, new), (tagged_old, tagged), targets, samples)
    limits = np.array([refit(before, scores[i], targets[i]).thresholds for i in samples])
    f1s = np.array([_class_f1(tagged[i], targets[i]) for i in samples])  # [R, C]
    f1_before, f1 = _class_f1(tagged_old, targets), _class_f1(tagged, targets)
    classes = {
        name: _ClassCalibration(
            positives=int((targets[:, c] == 1).sum()),
            negatives=int((targets[:, c] == 0).sum()),
            threshold=after.thresholds[c],
            interval=_interval(limits[:, c]),
            f1_before=float(f1_before[c]),
            f1=float(f1[c]),
            f1_interval=_interval(f1s[:, c]),
        )
        for c, name in enumerate(before.names)
        if (targets[:, c] >= 0).any()
    }
    kept = {
        "on": source,
        "images": count,
        "thresholds": before.to_json(),
        **{key: [figure.before, figure.after] for key, figure in figures.items()},
    }
    fitted = type(tagger)(tagger.model, tagger.vocabulary, after, {**tagger.about, _KEY: kept})
    return Calibration(fitted, source, count, figures, classes)


def uncalibrated(tagger: Tagger) -> Tagger:
    """The tagger with the thresholds that it had before :func:`calibrated`.

    Raises:
        UserError: it was never calibrated.
    """
    if _KEY not in tagger.about:
        raise UserError(
            "this model was not calibrated on labelled images: there is nothing to undo."
        )
    about = {key: value for key, value in tagger.about.items() if key != _KEY}
    return type(tagger)(tagger.model, tagger.vocabulary, _first_thresholds(tagger), about)


def _first_thresholds(tagger: Tagger) -> Thresholds:
    """The thresholds of before any calibration; further classes since then included."""
    kept = tagger.about.get(_KEY)
    if kept is None:
        return tagger.thresholds
    names = [name for name in tagger.names if name in kept["thresholds"]]
    first = Thresholds.from_json(kept["thresholds"], names)
    return first.grown(tagger.names[len(first.names) :])


def _figures(
    probabilities: tuple[np.ndarray, np.ndarray],
    decisions: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
    samples: np.ndarray,
) -> dict[str, _Figure]:
    """CF1, OF1 and calibration error of both, and intervals of the differences over samples."""

    def measured(which: int, rows: np.ndarray) -> np.ndarray:
        found = f1_of(decisions[which][rows], targets[rows], "threshold")
        error = calibration_error(probabilities[which][rows], targets[rows])
        return np.array([found.class_f1, found.overall_f1, error])

    every = np.arange(len(targets))
    before, after = measured(0, every), measured(1, every)
    changes = np.array([measured(1, rows) - measured(0, rows) for rows in samples])
    return {
        key: _Figure(float(before[i]), float(after[i]), _interval(changes[:, i]))
        for i, key in enumerate(("CF1", "OF1", "calibration error"))
    }


def _class_f1(decisions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """F1 per class [C] of decisions bool [N, C]; nan without a positive."""
    truth = targets == 1
    hits, tagged = (decisions & truth).sum(0), (decisions & (targets >= 0)).sum(0)
    positives = truth.sum(0)
    return np.asarray(np.where(positives > 0, 2 * hits / np.maximum(tagged + positives, 1), np.nan))


def _interval(values: np.ndarray) -> _Interval:
    """Ends of the 95 % interval by percentiles; nan where nothing is defined."""
    if np.isnan(values).all():
        return math.nan, math.nan
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
