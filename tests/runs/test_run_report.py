"""The page of a run: what its reader does next, and the settings that made it."""

from __future__ import annotations

import html

from conftest import TinyRun
from t2ipal.method.head_config import PromptConfig, TrainConfig
from t2ipal.runs.run_report import _changed
from t2ipal.tagger.tagger import Tagger


def test_the_page_says_how_to_use_the_model(tiny_run: TinyRun):
    page = html.unescape((tiny_run.folder / "report.html").read_text(encoding="utf-8"))
    model = tiny_run.folder / "model"
    assert f"t2ipal predict {model} " in page and f"t2ipal eval {model} --data" in page
    assert f'tagger = Tagger.from_pretrained("{model}")' in page


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
