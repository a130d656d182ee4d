"""What is weak, what it is taken for, and what to do about it."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import TinyRun
from t2ipal.cli import main
from t2ipal.cli.adjusting import _suggestions
from t2ipal.cli.options import Verb
from t2ipal.cli.whole import Run
from t2ipal.tagger.scoring import held_out_figures
from t2ipal.tagger.tagger import Tagger


def test_rivals_are_absent_classes_that_come_first():
    targets = np.array([[1, 0, 0], [1, 0, -1], [1, 1, 0], [0, 1, 0]])
    p = np.array([[0.2, 0.9, 0.1], [0.2, 0.3, 0.9], [0.2, 0.9, 0.3], [0.1, 0.8, 0.2]])
    found = held_out_figures(("cup", "mug", "jar"), p, p, targets)
    assert found["cup"]["taken_for"] == {"mug": 2, "jar": 1}  # unknown and present do not count
    assert found["cup"]["shown"] == 3 and found["cup"]["AP"] == 1.0
    assert found["mug"]["taken_for"] == {}
    assert found["jar"]["AP"] is None and found["jar"]["shown"] == 0


def test_the_weakest_come_first_with_what_helps_them():
    row = {"AP": 0.5, "chance": 0.3, "shown": 8, "taken_for": {}, "found": 20, "images": 20}
    figures = {
        "fine": row | {"AP": 0.9},
        "jar": row | {"AP": None, "shown": 0, "images": 3, "found": 3},
        "cup": row | {"AP": 0.2, "taken_for": {"mug": 4}, "found": 2},
    }
    lines = _suggestions(figures, 2, "RUN/model", "--config RUN/config.yaml --out RUN")
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == ["jar", "cup"]
    text = "\n".join(lines)
    assert "taken for mug in 4 of 8" in text and "no better than chance" in text
    assert "cup without mug, mug without cup" in text and "2 of the 20 images" in text
    assert "3 generated images show it" in text and "fine" not in text


def test_by_command(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]):
    """Commands parse as they stand, and name the run."""
    model = tiny_run.folder / "model"
    about = Tagger.from_pretrained(model, device="cpu").about["classes"]
    assert all({"taken_for", "images"} <= row.keys() for row in about.values())
    assert main(["suggest", str(model), "--most", "6"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in about)
    runs = [line.split()[2:] for line in said.splitlines() if line.startswith("      t2ipal run")]
    verb: type[Verb] = Run
    for words in runs:
        assert verb.parse(words).out == tiny_run.folder  # type: ignore[attr-defined]
    assert runs and f"t2ipal calibrate {model} --data LABELLED" in said
    assert main(["suggest", "photo"]) == 2
    assert "measure it on labelled ones with --data" in capsys.readouterr().err
