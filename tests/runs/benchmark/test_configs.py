"""configs/, the published figures and the page: they say the same, and each file can be used."""

from __future__ import annotations

import importlib.util
import re
import shlex
import statistics
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from tools.comparison_page import header

from t2ipal.errors import UserError
from t2ipal.runs.benchmark.published import _parse, published
from t2ipal.runs.benchmark.setting import ALL_FRACTIONS, ALL_SHOTS, BenchmarkConfig, Setting

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
ANCHORS = ROOT.parent / "shared" / "design" / "anchors.md"


def _load() -> ModuleType:
    path = ROOT / "tools" / "comparison_page.py"
    spec = importlib.util.spec_from_file_location("comparison_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["comparison_page"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_configuration_loads_and_its_header_is_true(path: Path) -> None:
    config = BenchmarkConfig.read(path)
    lines = path.read_text().splitlines()
    assert lines[:3] == header(config, published())
    verb, named = shlex.split(lines[0].removeprefix("# "))[1:3]
    assert verb == "benchmark" and ROOT / named == path
    for row, figure in config.setting.figures():
        assert f"{figure.map}" in lines[1] and row.source in lines[1]
        assert config.run.clip == f"{row.backbone.replace('/', '-')}:openai"
        assert row.protocol == config.setting.protocol
    again = BenchmarkConfig.from_dict(config.to_dict(), config.name)
    assert again == config


def test_every_published_setting_that_can_be_run_has_a_file() -> None:
    names = {BenchmarkConfig.read(path).name for path in FILES}
    for test in ("voc2007", "coco2014", "nuswide"):
        for what in (
            *(f"{backbone}-zero-shot" for backbone in ("rn50", "rn101", "vit-b-16")),
            *("rn50-clip-dpt", "rn101-clip-dpt", "rn50-tai-dpt", "rn50-tai-dpt-original"),
            *("rn50-t2i-pal", "rn50-t2i-pal-few-shot", "rn50-t2i-pal-partial"),
            "rn101-dualcoop-partial",
        ):
            assert f"{test}/{what}" in names
    protocols = {name: BenchmarkConfig.read(ROOT / "configs" / f"{name}.yaml") for name in names}
    assert {c.setting.shots for c in protocols.values()} == {(), ALL_SHOTS}
    assert {c.setting.fractions for c in protocols.values()} == {(), ALL_FRACTIONS}
    assert {c.setting.mask_seeds for c in protocols.values()} == {(), (0, 1, 2)}
    clean = [c for c in protocols.values() if c.setting.captions == "train2017"]
    assert {c.method.best_on_test for c in clean} == {True}  # nothing else uses test images


def test_the_page_and_the_headers_are_what_the_script_writes() -> None:
    script = _load()
    for path, text in script.outputs().items():
        assert path.read_text(encoding="utf-8") == text, path


def test_the_published_gains_average_to_what_the_abstract_says() -> None:
    rows = published().rows
    gains = [
        ours.map - theirs.map
        for ours, theirs in zip(
            rows["t2i-pal-rn50"].figures, rows["tai-dpt-rn50"].figures, strict=True
        )
    ]
    assert round(statistics.fmean(gains), 2) == 3.47


@pytest.mark.skipif(not ANCHORS.is_file(), reason="the notes on the field are not here")
def test_every_figure_of_the_notes_is_in_the_file() -> None:
    known = {f.map for row in published().rows.values() for f in row.figures}
    section = ANCHORS.read_text().partition("## TaI-DPT exactly")[0].partition("## Without")[2]
    noted = {float(word) for word in re.findall(r"(?<![\d.])\d\d\.\d(?!\d)", section)}
    assert noted and noted <= known
    assert known <= noted


def test_lists_of_nus_wide_never_share_a_column() -> None:
    script = _load()
    content = published()
    zero = [row for row in content.rows.values() if row.protocol == "zero-shot"]
    head, _, *lines = script.table(content, zero).splitlines()
    titles = [cell.strip() for cell in head.split("|")]
    for line, row in zip(lines, zero, strict=True):
        cells = [cell.strip() for cell in line.split("|")]
        shown = {titles[i] for i, cell in enumerate(cells) if cell and "NUS-WIDE, " in titles[i]}
        filled = {titles[i] for i, c in enumerate(cells) if "NUS-WIDE, " in titles[i] and c != "-"}
        expected = {f"NUS-WIDE, {content.lists[f.list]}" for f in row.figures if f.list}
        assert filled == expected and filled <= shown


def test_a_setting_is_compared_on_its_own_list_alone() -> None:
    keys = ("t2i-pal-rn50", "piaa-vit-b-16")
    every = Setting("nuswide", "t2i-pal", published=keys)
    assert [row.key for row, _ in every.figures()] == ["t2i-pal-rn50"]
    for images in ("labelled", "/lists/mine.txt"):
        other = Setting("nuswide", "t2i-pal", options={"images": images}, published=keys)
        assert other.figures() == []
    half = Setting(
        "voc2007", "dualcoop/real", "partial", fractions=(0.5,), mask_seeds=(0,),
        published=("dualcoop-rn101",),
    )  # fmt: skip
    assert half.figures() == []  # the published one is the mean of nine


BASE = "benchmark: {test: voc2007, method: t2i-pal, captions: train2014}\nclasses: voc2007\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("benchmrk: {}", r"no group 'benchmark' \(did you mean 'benchmrk'\?\)"),
        (BASE + "clpi: x", r"unknown key 'clpi' \(did you mean 'clip'\?\)"),
        (BASE.replace("method", "metod"), "benchmark.method is missing"),
        (
            BASE.replace("captions", "captoins"),
            r"x.yaml:1: unknown key 'benchmark.captoins' \(did you mean 'captions'",
        ),
        (BASE.replace("t2i-pal", "t2i-pla"), r"no method 't2i-pla' \(did you mean 't2i-pal'"),
        (BASE + "data: x", "'data' is for the protocol or the command to say"),
        (BASE.replace("test: voc2007", "test: voc2012"), "benchmark.test must be one of"),
        (BASE.replace("classes: voc2007", "classes: coco2014"), "must be the same, except for"),
        (BASE + "compose: 5", "give benchmark.captions, or the number"),
        (BASE.replace("captions", "shots: 4, captions"), "benchmark.shots must be a list"),
        (BASE.replace("captions", "shots: [4], captions"), "protocol few-shot belong together"),
        (BASE.replace("captions", "options: {dificult: x}, captions"), "did you mean 'difficult'"),
        (BASE.replace("captions", "published: [t2ipal], captions"), "no published row 't2ipal'"),
        (BASE + "head: {adaptor: {}}", "x.yaml:3: unknown key 'head.adaptor'"),
        ("a: [1", r"x.yaml:[12]: is not YAML"),
    ],
)
def test_bad_configurations_are_refused_with_the_nearest_name(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "x.yaml").write_text(text + "\n")
    with pytest.raises(UserError, match=message):
        BenchmarkConfig.read(tmp_path / "x.yaml")


def test_masks_need_a_seed_for_each_seed() -> None:
    part = {"test": "voc2007", "method": "dualcoop/real", "protocol": "partial",
            "fractions": [0.5], "mask_seeds": [0]}  # fmt: skip
    with pytest.raises(UserError, match="1 mask_seeds for 3 seeds"):
        BenchmarkConfig.from_dict({"benchmark": part, "classes": "voc2007", "compose": 5}, "mine")


def test_the_file_of_figures_is_strict() -> None:
    row = {"method": "m", "backbone": "b", "uses": "u", "protocol": "zero-shot", "source": "s"}

    def read(figure: str) -> None:
        content = {"lists": {"all": "107,859"}, "measured": {}}
        _parse({**content, "rows": {"k": {**row, "figures": [yaml.safe_load(figure)]}}})

    read("{test: nuswide, map: 40.0, list: all}")
    for figure in (
        "{test: nuswide, map: 40.0}",
        "{test: nuswide, map: 40.0, list: mine}",
        "{test: voc2007, map: 40.0, list: all}",
        "{test: voc2007, map: 0.4e+3}",
        "{test: voc, map: 40.0}",
        "{test: voc2007, mpa: 40.0}",
    ):
        with pytest.raises(UserError):
            read(figure)
