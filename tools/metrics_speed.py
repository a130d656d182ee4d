"""Metrics of all 107,859 test images of NUS-WIDE: seconds, memory, difference from scikit-learn.

    python tools/metrics_speed.py

scikit-learn computes one class at a time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from t2ipal.metrics.evaluation import evaluate

IMAGES, CLASSES, THRESHOLD = 107_859, 81, 2.0


def problem(images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and labels as rare as NUS-WIDE's."""
    random = np.random.default_rng(0)
    targets = (random.random((images, classes), dtype=np.float32) < 0.023).astype(np.int8)
    scores = random.standard_normal((images, classes), dtype=np.float32) + targets
    return np.round(scores, 3), targets


def peak() -> float:
    """The most memory this process ever had, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    scores, targets = problem(given.images, given.classes)
    names = [str(c) for c in range(given.classes)]
    ours = []
    for _ in range(given.repeats):
        started = time.perf_counter()
        found = evaluate(scores, targets, names, thresholds=THRESHOLD, replicates=0)
        ours.append(time.perf_counter() - started)
    memory = peak()
    started = time.perf_counter()
    expected = [average_precision_score(targets[:, c], scores[:, c]) for c in range(given.classes)]
    decisions = scores >= THRESHOLD
    by_class = precision_recall_fscore_support(targets, decisions, average=None, zero_division=0)
    pooled = precision_recall_fscore_support(targets, decisions, average="micro", zero_division=0)
    theirs = time.perf_counter() - started
    assert found.threshold is not None
    differences = [
        np.abs(np.array(found.average_precision) - expected).max(),
        abs(found.threshold.class_precision - by_class[0].mean()),
        abs(found.threshold.class_recall - by_class[1].mean()),
        abs(found.threshold.overall_precision - pooled[0]),
        abs(found.threshold.overall_recall - pooled[1]),
        abs(found.threshold.overall_f1 - pooled[2]),
    ]
    print(f"{given.images:,} x {given.classes} scores, AP and F1 at a threshold")
    print(f"t2ipal, top-3 included   {min(ours):6.2f} s   peak {memory:.2f} GB, data included")
    print(f"scikit-learn             {theirs:6.2f} s   {theirs / min(ours):.1f} times as long")
    print(f"largest difference       {max(differences):.1e}")
    return 0 if max(differences) < 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
