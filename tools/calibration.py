"""What calibrating on a few labelled photos is worth: figures before and after, on other photos.

    python -m tools.calibration photo --data 'voc2007:DIR?split=trainval' --cache work/cache

For each number of photos and each seed, so many are chosen by chance, the tagger is calibrated on
them, and all others are tagged by the thresholds before and after. Rows are means over the seeds,
with the sample deviation of those after; per cent. ``--class-name person`` adds in how many photos
without and with that class it is tagged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from t2ipal.files.broken import Broken
from t2ipal.metrics.evaluation import f1_of
from t2ipal.metrics.uncertainty import calibration_error
from t2ipal.tagger.scoring import labelled_scores
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.thresholds import Thresholds, refit


def figures(
    thresholds: Thresholds, scores: np.ndarray, targets: np.ndarray, column: int | None
) -> list[float]:
    """CF1, OF1, calibration error, and how often a class is tagged in photos without and with."""
    decisions = thresholds.decide(scores)
    f1 = f1_of(decisions, targets, "threshold")
    found = [f1.class_f1, f1.overall_f1]
    found.append(calibration_error(thresholds.probabilities(scores), targets))
    if column is not None:
        found += [float(decisions[targets[:, column] == label, column].mean()) for label in (0, 1)]
    return [100 * value for value in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of cached features")
    parser.add_argument("--photos", type=int, nargs="+", default=[20, 100, 500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--class-name")
    arguments = parser.parse_args()
    tagger = Tagger.from_pretrained(arguments.model)
    labelled, scores = labelled_scores(
        tagger, arguments.data, images=None, cache=arguments.cache, broken=Broken(), say=print
    )
    name = arguments.class_name
    column = None if name is None else tagger.vocabulary.meant(name)
    keys = ["CF1", "OF1", "calibration error"]
    keys += [] if name is None else [f"{name} where there is none", f"{name} where there is one"]
    print("photos | " + " | ".join(f"{key}, before, after, deviation" for key in keys))
    for count in arguments.photos:
        before: list[list[float]] = []
        after: list[list[float]] = []
        for seed in arguments.seeds:
            order = np.random.default_rng(seed).permutation(len(scores))
            chosen, others = order[:count], order[count:]
            fitted = refit(tagger.thresholds, scores[chosen], labelled.targets[chosen])
            for found, by in ((before, tagger.thresholds), (after, fitted)):
                found.append(figures(by, scores[others], labelled.targets[others], column))
        means = zip(np.mean(before, 0), np.mean(after, 0), np.std(after, 0, ddof=1), strict=True)
        print(f"{count} | " + " | ".join(f"{b:.1f} {a:.1f} {d:.1f}" for b, a, d in means))


if __name__ == "__main__":
    main()
