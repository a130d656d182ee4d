"""tools/results.py: a page that is made once, part by part, and read back."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import TinyRun
from t2ipal.captions.labelled import label_captions, read_labelled
from t2ipal.clip.backbone import Backbone
from t2ipal.generation.store import read_manifest
from t2ipal.method.methods import method_config
from t2ipal.runs.workbench import Workbench
from t2ipal.vocabulary import Vocabulary
from tools import lab as laboratory
from tools import plots, results


@pytest.fixture
def lab(tiny_run: TinyRun, tmp_path: Path) -> laboratory.Lab:
    return laboratory.Lab(
        replace(tiny_run.config, seeds=(0, 1)),
        Vocabulary.load(tiny_run.folder / "vocabulary.yaml"),
        Backbone.load(tiny_run.config),
        read_labelled(tiny_run.folder / "captions.jsonl"),
        read_manifest(tiny_run.folder),
        tiny_run.folder,
        tmp_path,
        tmp_path / "results.md",
        "tiny",
        lambda line: None,
    )


def test_a_section_is_made_once_and_read_back(
    lab: laboratory.Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "SHOTS", (1,))

    def lines() -> list[str]:
        parts = results.section([lab], [[results.FEW_SHOT, results.GAP]])
        return [line for part in parts for line in part]

    first = lines()
    rows = [line.split(" | ") for line in first if line.startswith("| ")]
    assert [cells[0].strip("| ") for cells in rows[2:7]] == [
        "zero-shot",
        "TaI-DPT",
        "T2I-PAL",
        "DualCoOp",
        "T2I-PAL + real images",
    ]
    assert "±" not in "".join(rows[2]) and all("±" in cell for cell in rows[6][1:])
    assert len(lab.main._journal.read_text().splitlines()) == 1 + 2 + 2 + 2 + 2
    for name in ("few-shot", "gap"):
        assert f"]({lab.link(name)})" in "\n".join(first)
        ElementTree.parse(lab.image(name))
    monkeypatch.setattr(Workbench, "fit", None)  # nothing is fitted again
    del lab.main  # as in another process
    assert lines() == first


def test_few_items_get_as_many_steps(lab: laboratory.Lab) -> None:
    method = lab.method("dualcoop/real")
    assert method.train is not None and method.train.evaluate_every == method.train.epochs == 2
    bench = lab.main.bench
    usual = lab._steps(len(bench.train_captions), bench.generated_images)
    few = replace(lab.real(0, shots=1), items=lab.real(0, shots=1).items.take(np.arange(3)))
    given = lab._with_enough_steps(method, bench, few)
    assert given.train is not None and given.train.epochs == 2 * usual  # one step each
    whole = lab._with_enough_steps(lab.method("t2i-pal"), bench, None)
    assert whole == lab.method("t2i-pal")
    assert lab._with_enough_steps(method_config("zero-shot"), bench, few).train is None


def test_real_images_are_few_or_have_few_labels(lab: laboratory.Lab) -> None:
    whole, few, part = lab.real(0), lab.real(0, shots=2), lab.real(0, fraction=0.5)
    shown = (few.items.targets == 1).sum(dim=0)
    assert len(few.items) < len(whole.items) and shown.min() >= 2
    known = part.items.targets >= 0
    assert 0.3 < known.float().mean() < 0.7 and (part.items.targets == 1).any(dim=0).all()
    assert (part.items.targets[known] == whole.items.targets[known]).all()
    assert part.items.global_ is whole.items.global_
    again = lab.real(1, fraction=0.5).items.targets
    assert not (again == part.items.targets).all()


def test_some_captions_name_every_class_and_lie_in_one_another() -> None:
    texts = [f"a dog and a {thing}" for thing in ("cat", "bus", "car", "sheep", "cow")]
    rows = label_captions([*texts, "a sofa", "a cat", "a cow", "nothing"], "voc2007")
    chosen = [laboratory.some_captions(rows, count) for count in (6, 7, 50)]
    assert [len(some) for some in chosen] == [6, 7, 8]
    assert {row.id for row in chosen[0]} < {row.id for row in chosen[1]}
    named = {name for row in chosen[0] for name in row.labels}
    assert named == {"dog", "cat", "bus", "car", "sheep", "cow", "sofa"}


def test_a_section_takes_the_place_of_its_own_and_of_no_other() -> None:
    page = results.with_section("# Title\n\nWords.\n", "Photos", ["one"])
    page = results.with_section(page, "World", ["two", "", "### Part", "three"])
    assert page == "# Title\n\nWords.\n\n## Photos\n\none\n\n## World\n\ntwo\n\n### Part\nthree\n"
    assert results.with_section(page, "World", ["two", "", "### Part", "three"]) == page
    page = results.with_section(page, "Photos", ["four"])
    assert page == "# Title\n\nWords.\n\n## Photos\n\nfour\n\n## World\n\ntwo\n\n### Part\nthree\n"


def test_figures_are_small_and_the_same_each_time(tmp_path: Path) -> None:
    lines = {"level": [(0.5, 0.52)], "rising": [(0.4, 0.5), (0.6, 0.7), (0.7, 0.7)]}
    sets = {"a": np.random.default_rng(0).normal(size=(150, 2)), "b": np.ones((150, 2))}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        plots.curves(tmp_path / name / "curves.svg", "shots", ["1", "2", "4"], lines)
        plots.scatter(tmp_path / name / "map.svg", sets)
    for file in ("curves.svg", "map.svg"):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("one", "two"))
        assert first == second and len(first) < 60_000
    text = (tmp_path / "one" / "curves.svg").read_text()
    assert all(f">{word}</text>" in text for word in ("level", "rising", "shots", "mAP (%)"))
