"""Classes added to a tagger: at once, on disk and back, known names refused, thresholds marked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import TinyRun
from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.generation.store import read_manifest
from t2ipal.tagger.card import model_card
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.thresholds import Thresholds
from t2ipal.vocabulary import ClassName


@pytest.fixture(scope="module")
def tagger(tiny_run: TinyRun) -> Tagger:
    return Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")


@pytest.fixture(scope="module")
def files(tiny_run: TinyRun) -> list[Path]:
    return [tiny_run.folder / row.file for row in read_manifest(tiny_run.folder)[:6]]


def test_further_classes_leave_the_others_as_they_are(
    tagger: Tagger, files: list[Path], tmp_path: Path
):
    before = tagger.predict(files)
    one = tagger.with_classes(["tent", ClassName("kite", synonyms=("glider",))])
    two = one.with_classes(["horse"], images={"horse": files[:3]})
    assert tagger.names == two.names[:6] and two.names[6:] == ("tent", "kite", "horse")
    after, between = two.predict(files, heatmaps=True), one.predict(files)
    for old, middle, new in zip(before, between, after, strict=True):
        assert np.array_equal(old.probabilities, new.probabilities[:6])
        assert np.array_equal(middle.probabilities, new.probabilities[:8])
        assert new.heatmap("kite").shape == new.heatmap("dog").shape
    two.save_pretrained(tmp_path)
    loaded = Tagger.from_pretrained(tmp_path, device="cpu")
    assert loaded.names == two.names and loaded.vocabulary.meant("glider") == 7
    for saved, new in zip(loaded.predict(files), after, strict=True):
        assert np.array_equal(saved.probabilities, new.probabilities)
    again = loaded.with_classes(["a red bicycle"])
    assert np.array_equal(again.predict(files)[0].probabilities[:9], after[0].probabilities)


@pytest.mark.parametrize("name", ["Dog", "dogs", "man", "City_Bus", "buses", "boat"])
def test_a_class_that_is_there_is_told(tagger: Tagger, name: str):
    with pytest.raises(UserError, match=f"'{name}' names the class '.*' already"):
        tagger.with_classes([name])
    with pytest.raises(UserError, match=f"'{name}' names the class"):
        tagger.with_classes([ClassName("thing", synonyms=(name,))])


def test_what_is_no_list_of_new_classes_is_told(tagger: Tagger, files: list[Path]):
    for names, images, message in (
        ("tent", None, "expected a list"),
        (["tent", "Tents"], None, "'Tents' names the class 'tent' already"),
        (["tent"], {"tend": files}, "no class 'tend'.*did you mean 'tent'"),
        (["tent"], {"tent": []}, "no image of 'tent'"),
        (["tent"], {"tent": files[0].parent}, "is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            tagger.with_classes(names, images=images)


def test_new_thresholds_are_the_others_and_marked(tagger: Tagger, files: list[Path]):
    grown = tagger.with_classes(["tent"])
    assert grown.thresholds.calibrated == (True,) * 6 + (False,)
    assert "| tent | tent | " in model_card(grown)
    line = next(line for line in model_card(grown).splitlines() if line.startswith("| tent |"))
    assert "not calibrated" in line
    tags = grown.predict(files[0], threshold=0.0)
    assert f"tent {tags['tent']:.2f} (not calibrated)" in repr(tags)
    assert "not calibrated" not in repr(grown.predict(files[0], threshold=0.0, classes=["dog"]))


def test_a_further_row_is_the_medians_of_the_calibrated_others():
    names = ("a", "b", "c", "d")
    rows = Thresholds(
        names, (0.5, 0.5, 0.5, 0.9), (1.0, 2.0, 4.0, 0.0), (-1.0, -4.0, -12.0, 9.0),
        (False,) * 4, (True, True, True, True),
    )  # fmt: skip
    grown = rows.grown(["e", "f"])
    # even odds at 1, 2 and 3; d, whose scores say nothing, is left out
    assert grown.slopes[4:] == (2.0, 2.0) and grown.intercepts[4:] == (-4.0, -4.0)
    assert grown.thresholds[4] == pytest.approx(0.5)
    assert Thresholds.from_json(grown.to_json(), grown.names) == grown
    assert grown.grown(["g"]).slopes[6] == 2.0
    flat = Thresholds(("a",), (0.4,), (0.0,), (-1.0,), (True,)).grown(["b"])
    assert flat.thresholds == (0.4, 0.4) and flat.probabilities(np.zeros(2))[1] < 0.4


def test_by_command(
    tiny_run: TinyRun, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, out = str(tiny_run.folder / "model"), str(tmp_path / "own")
    assert main(["add-class", model, "tent"]) == 2
    assert "belongs to a run" in capsys.readouterr().err
    assert main(["add-class", model, "tent", "--synonyms", "marquee", "--out", out]) == 0
    assert "7 classes" in capsys.readouterr().out
    assert main(["add-class", out, "marquees"]) == 2
    assert "'marquees' names the class 'tent' already" in capsys.readouterr().err
    shutil.copytree(files[0].parent, images := tmp_path / "images")
    (images / "notes.pdf").write_text("no picture")
    capsys.readouterr()
    assert main(["add-class", out, "horse", "--images", str(images)]) == 0
    assert "left out: 1" in capsys.readouterr().out
    grown = Tagger.from_pretrained(out, device="cpu")
    assert grown.names[6:] == ("tent", "horse") and grown.clip.head.started
    assert main(["add-class", out, "kite", "--images", str(tiny_run.folder)]) == 2
    assert "none of its captions names 'kite'" in capsys.readouterr().err


def test_a_query_is_scored_beside_the_classes(
    tiny_run: TinyRun, files: list[Path], capsys: pytest.CaptureFixture[str]
):
    model, query = str(tiny_run.folder / "model"), ["--query", "a red bicycle"]
    assert main(["predict", model, str(files[0]), *query, "--format", "csv"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.endswith(",boat,a red bicycle") and row.count(",") == 8
    assert main(["predict", model, str(files[0]), *query, "--classes", "dog"]) == 0
    heard = capsys.readouterr()
    assert "a red bicycle 0." in heard.out
    assert main(["predict", model, str(files[0]), "--query", "dogs"]) == 2
    assert "'dogs' names the class 'dog' already" in capsys.readouterr().err
