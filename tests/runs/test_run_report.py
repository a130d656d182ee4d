"""The page of a run: what its reader does next, and the settings that made it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest

from conftest import TinyRun
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError
from t2ipal.method.head_config import PromptConfig
from t2ipal.method.train_config import TrainConfig
from t2ipal.runs.config import RunConfig
from t2ipal.runs.run_report import _changed, _more_captions, _scenes, _worst
from t2ipal.tagger.tagger import Tagger


def test_the_page_says_how_to_use_the_model(tiny_run: TinyRun):
    page = html.unescape((tiny_run.folder / "report.html").read_text(encoding="utf-8"))
    model = tiny_run.folder / "model"
    assert f"t2ipal predict {model} " in page and f"t2ipal eval {model} --data" in page
    assert f'tagger = Tagger.from_pretrained("{model}")' in page


def test_the_page_says_how_to_train_on_more(tiny_run: TinyRun):
    page = html.unescape((tiny_run.folder / "report.html").read_text(encoding="utf-8"))
    again = f"t2ipal run --config {tiny_run.folder / 'config.yaml'}"
    assert f"{again} --real-images labelled/ --out {tiny_run.folder}" in page
    assert f"{again} --compose 60 --out {tiny_run.folder}" in page  # of 30


def test_weak_classes_are_those_to_write_captions_for():
    aps = {"cat": 0.9, "dog": 0.4, "bus": None, "car": 0.5, "cow": 0.8}
    classes = {name: {"AP": ap} for name, ap in aps.items()}
    what, command = _more_captions(RunConfig(captions="my captions.txt"), Path("r"), classes)
    assert what.startswith("Add captions to my captions.txt; on held-out items bus, dog, car are")
    assert command == "t2ipal run --config r/config.yaml --out r"
    limited = RunConfig(captions="c.json", limit=50)
    assert _more_captions(limited, Path("r"), {})[1].endswith("--limit 100 --out r")


def test_the_page_shows_mistakes_that_are_some(tiny_run: TinyRun):
    page = html.unescape((tiny_run.folder / "report.html").read_text(encoding="utf-8"))
    section = page[page.index('<section id="mistakes">') :]
    section = section[: section.index("</section>")]
    faults = re.findall(r'<p class="fault">(.*): (tagged, but not there|missed) \(', section)
    assert 0 < len(faults) == section.count("<article") <= 10
    for (name, kind), card in zip(faults, section.split("<article")[1:], strict=True):
        shown = card[card.index("<dt>shows") : card.index("<dt>predicted")]
        assert (f">{name}</span>" in shown) == (kind == "missed")
        assert f'alt="heatmap of {name}"' in card


def test_the_worst_mistakes_are_certain_and_of_different_images():
    probabilities = np.array([[0.9, 0.8], [0.7, 0.1], [0.6, 0.2], [0.95, 0.3], [0.65, 0.05]])
    targets = np.array([[0, 0], [0, 1], [0, 1], [1, -1], [0, 1]])
    rows, classes = _worst(probabilities, targets, probabilities >= 0.5)
    # Of class 0 the two most certain wrong tags; image 0 is there once; image 3 is right.
    assert (rows, classes) == ([0, 1, 4, 2], [0, 0, 1, 1])


def test_a_test_image_that_cannot_be_read_any_more_is_named(tiny_run: TinyRun, tmp_path: Path):
    tagger = Tagger.from_pretrained(tiny_run.folder / "model")
    gone = tmp_path / "gone.png"
    test = LabelledImages("photos", (gone,), np.zeros((1, 6), np.int8))
    with pytest.raises(UserError, match=r"gone\.png: "):
        list(_scenes(tagger, test, [0]))


def test_the_page_shows_thresholds_as_probabilities(tiny_run: TinyRun):
    page = (tiny_run.folder / "report.html").read_text(encoding="utf-8")
    limits = Tagger.from_pretrained(tiny_run.folder / "model").thresholds.thresholds
    assert page.count('<span class="value threshold">') == len(limits) == 6
    for limit in limits:
        assert f'<span class="value threshold">≥ {limit:.2f}</span>' in page


def test_the_page_has_a_table_of_changed_settings_and_no_json(tiny_run: TinyRun):
    page = html.unescape((tiny_run.folder / "report.html").read_text(encoding="utf-8"))
    for option, value, default in (
        ("train.epochs", "2", str(TrainConfig().epochs)),
        ("head.prompts.context_tokens", "14", str(PromptConfig().context_tokens)),
        ("seeds", "0, 1", "0, 1, 2"),
    ):
        assert f"<tr><td>{option}</td><td>{value}</td><td>{default}</td></tr>" in page
    assert "<td>train.batch_size</td>" in page and "<td>train.learning_rate" not in page
    assert '<a href="config.yaml">config.yaml</a>' in page
    assert '{"' not in page


def test_changed_settings_are_dotted_and_readable():
    settings = {"a": 1, "b": {"c": True, "d": {"e": [1, 2]}}, "f": None, "same": 0.5}
    defaults = {"a": None, "b": {"c": False, "d": {"e": []}}, "f": "x", "same": 0.5}
    assert list(_changed(settings, defaults)) == [
        ("a", "1", "\N{EN DASH}"),
        ("b.c", "yes", "no"),
        ("b.d.e", "1, 2", ""),
        ("f", "\N{EN DASH}", "x"),
    ]
