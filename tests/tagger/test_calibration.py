"""Calibration on a few labelled images: against scipy, in expectation, by cross-validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from conftest import TinyRun
from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.metrics.evaluation import f1_of
from t2ipal.tagger.calibration import (
    _first_thresholds,
    calibrate,
    calibrated,
    uncalibrated,
)
from t2ipal.tagger.card import model_card
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.thresholds import Thresholds, _best_expected, _fit, refit
from t2ipal.vocabulary import Vocabulary

CLASSES = 12
NAMES = tuple("abcdefghijkl")


def prior(threshold: float = 0.4) -> Thresholds:
    columns = [(value,) * CLASSES for value in (threshold, 1.0, 0.0)]
    return Thresholds(NAMES, *columns, shared=(False,) * CLASSES)


def world(seed: int, count: int, moved: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds [N, 12] of before, and labels by others: a shift common to all and one per class."""
    random = np.random.default_rng(seed)
    common = moved * random.normal()
    slopes = np.exp(0.3 * moved * random.normal(size=CLASSES))
    shifts = common + 0.7 * moved * random.normal(size=CLASSES)
    z = random.normal(-2.5, 2.0, size=(count, CLASSES))
    truth = random.random(z.shape) < 1 / (1 + np.exp(-(slopes * z + shifts)))
    return z, truth.astype(np.int8)


def test_the_fit_is_the_maximum_that_scipy_finds():
    z, targets = world(3, 60, moved=1.0)
    known = np.random.default_rng(0).random(z.shape) < 0.8
    a, b = _fit(z, targets == 1, known, (1.2, -0.3), (0.25, 1.0))
    for c in range(CLASSES):
        own, truth = z[known[:, c], c], targets[known[:, c], c] == 1

        def loss(x, own=own, truth=truth):
            logits = x[0] * own + x[1]
            misfit = np.logaddexp(0, -np.where(truth, logits, -logits)).sum()
            return misfit + ((x[0] - 1.2) / 0.25) ** 2 / 2 + (x[1] + 0.3) ** 2 / 2

        found = minimize(loss, (1.0, 0.0), bounds=((0, None), (None, None)), tol=1e-10)
        np.testing.assert_allclose((a[c], b[c]), found.x, atol=1e-3)


def test_the_best_expected_f1_by_trying_all():
    p = np.random.default_rng(1).random(40) ** 3
    tried = [2 * p[p >= limit].sum() / ((p >= limit).sum() + p.sum()) for limit in p]
    limit = _best_expected(p)
    found = 2 * p[p >= limit].sum() / ((p >= limit).sum() + p.sum())
    assert found == pytest.approx(max(tried))


@pytest.mark.parametrize(("count", "moved"), [(20, 0.0), (20, 1.0), (100, 0.0), (100, 1.0)])
def test_few_images_do_not_make_it_worse_in_expectation(count: int, moved: float):
    """Over 40 worlds: OF1 and log loss on other images. The fit cannot know that nothing moved,
    which costs at most half a point and a hundredth of a nat."""
    gains, losses = [], []
    for seed in range(40):
        z, targets = world(seed, 1000, moved)
        new = refit(prior(), z[:count], targets[:count])
        rest, labels = z[count:], targets[count:]
        f1, nll = [], []
        for one in (prior(), new):
            p = np.clip(one.probabilities(rest), 1e-9, 1 - 1e-9)
            f1.append(f1_of(p >= np.array(one.thresholds), labels, "").overall_f1)
            nll.append(-np.log(np.where(labels == 1, p, 1 - p)).mean())
        gains.append(f1[1] - f1[0])
        losses.append(nll[0] - nll[1])
    if moved:
        assert np.mean(gains) > 0.01 and np.mean(losses) > 0.02
    else:
        assert np.mean(gains) > -0.005 and np.mean(losses) > -0.01


def test_labels_that_are_unknown_change_nothing():
    z, targets = world(5, 80, moved=1.0)
    targets[:, 3] = -1
    new = refit(prior(), z, targets)
    assert (new.thresholds[3], new.slopes[3], new.intercepts[3]) == (0.4, 1.0, 0.0)
    again = refit(prior(), np.where(targets < 0, 99.0, z), targets)
    np.testing.assert_allclose(again.slopes[:3], new.slopes[:3])
    targets[:, 4] = 0  # no image shows it: the threshold stays, the sigmoid moves
    none = refit(prior(), z, targets)
    assert none.thresholds[4] == 0.4 and none.intercepts[4] < 0 and none.shared[4]


@pytest.fixture(scope="module")
def tagger(tiny_run: TinyRun) -> Tagger:
    return Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")


def test_figures_after_are_of_images_not_fitted_on():
    """Labels that scores say nothing of: fitted on the same images they would look better."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(60, CLASSES))
    targets = (random.random((60, CLASSES)) < 0.3).astype(np.int8)
    no_model: Any = None
    found = calibrated(Tagger(no_model, Vocabulary.of(NAMES), prior()), scores, targets, "noise")
    new = found.tagger.thresholds
    cheated = f1_of(new.decide(scores), targets, "").class_f1
    assert found.figures["CF1"].after < cheated
    low, high = found.figures["OF1"].change
    assert low < high
    for name, row in found.classes.items():
        assert row.interval[0] <= row.threshold <= row.interval[1] or row.positives < 5, name
        assert row.positives + row.negatives == 60
    text = "\n".join(found.lines())
    assert "cross-validated on 60 images" in text and "OF1" in text
    json.dumps(found.to_json(), allow_nan=False)


def test_calibrating_twice_starts_from_the_first_thresholds_and_can_be_undone(tagger: Tagger):
    z, targets = world(2, 40, moved=1.0)
    scores, targets = z[:, :6], targets[:, :6]
    one = calibrated(tagger, scores, targets, "a").tagger
    two = calibrated(one, scores, targets, "b").tagger
    assert one.thresholds == two.thresholds != tagger.thresholds
    assert _first_thresholds(two) == tagger.thresholds == uncalibrated(two).thresholds
    assert "calibration" not in tagger.about and "calibration" not in uncalibrated(two).about
    grown = two.with_classes(["tent"])
    assert uncalibrated(grown).thresholds == tagger.thresholds.grown(["tent"])
    with pytest.raises(UserError, match="nothing to undo"):
        uncalibrated(tagger)
    with pytest.raises(UserError, match="too few to calibrate on; give 10"):
        calibrated(tagger, scores[:9], targets[:9], "few")
    card = model_card(two)
    assert "40 labelled images (b)" in card and "No annotated photo was used" not in card
    assert "calibrated on held-out generated images" not in card


def test_by_command(tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, out = tiny_run.folder / "model", tmp_path / "own"
    data = ["--data", "miniature:known:30", "--features", str(tmp_path / "features")]
    report = tmp_path / "report.json"
    assert main(["calibrate", str(model), *data, "--out", str(out), "--report", str(report)]) == 0
    said = capsys.readouterr().out
    assert "cross-validated on 30 images" in said and f"wrote {out}" in said
    assert json.loads(report.read_text())["images"] == 30
    first, own = (Tagger.from_pretrained(one, device="cpu") for one in (model, out))
    assert own.thresholds != first.thresholds
    assert own.about["calibration"]["thresholds"] == first.thresholds.to_json()
    some = calibrate(
        first, "miniature:known:30", classes=["dog"], cache=tmp_path / "features", progress=False
    )
    assert set(some.classes) == {"dog"}
    assert some.tagger.thresholds.thresholds[1:] == first.thresholds.thresholds[1:]
    assert main(["calibrate", str(out), "--undo"]) == 0
    assert Tagger.from_pretrained(out, device="cpu").thresholds == first.thresholds
    for words in (["--undo", *data[:2]], []):
        assert main(["calibrate", str(out), *words]) == 2
    assert main(["calibrate", "photo", *data]) == 2
    said = capsys.readouterr().err
    assert "either --data LABELLED or --undo" in said and "--out is missing" in said
