"""Benchmarks end to end on rehearsal data with tiny random models: what they leave and refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.method.head_config import HeadConfig, PromptConfig
from t2ipal.method.train_config import TrainConfig
from t2ipal.miniature import official_layouts as rehearsal
from t2ipal.runs.benchmark.published import published
from t2ipal.runs.benchmark.run import RECORD, TABLE, _Timings, benchmark
from t2ipal.runs.benchmark.setting import BenchmarkConfig, Setting
from t2ipal.runs.config import RunConfig
from t2ipal.runs.measure import JOURNAL
from tiny_clip import build_tiny_clip
from tiny_diffusion import build


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rehearsal.build("voc2007", tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rehearsal.build("coco2014", tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    base = tmp_path_factory.mktemp("models")
    return RunConfig(
        classes="voc2007",
        per_class=2,
        complete=1,
        clip=str(build_tiny_clip(base / "clip", "vit")),
        generator=str(build(base / "generator")),
        steps=1,
        resize_mode="squash",
        seeds=(0, 1),
        head=HeadConfig(prompts=PromptConfig(context_tokens=2, start="random")),
        train=TrainConfig(epochs=1, batch_size=64),
    )


def go(config: BenchmarkConfig, data: Path | str, out: Path) -> tuple[dict, list[str], int]:
    said: list[str] = []
    result = benchmark(config, data, out, rehearsal=True, say=said.append, progress=False)
    return json.loads(result.record.read_text()), said, result.computed


def test_few_shot_is_recorded_resumed_and_not_done_twice(
    voc: Path, run: RunConfig, tmp_path: Path
) -> None:
    setting = Setting("voc2007", "t2i-pal", "few-shot", captions="train2014", shots=(1, 2))
    config = BenchmarkConfig("voc2007/mine", setting, run)
    out = tmp_path / "run"
    record, said, computed = go(config, voc, out)
    assert computed == 4 and record["rehearsal"] and record["test"]["images"] == 300
    assert [point["point"] for point in record["points"]] == ["1 shot", "2 shots"]
    for point in record["points"]:
        figures = point["mAP"]
        assert figures["mean"] == pytest.approx(np.mean(figures["each"]))
        assert figures["spread"] == pytest.approx(np.std(figures["each"], ddof=1))
        assert len(point["classes"]) == 20 and point["threshold"]["CF1"] is not None
        assert point["real_images"][0] != ""
    aps = [entry["AP"] for entry in record["points"][0]["classes"].values()]
    assert record["points"][0]["mAP"]["mean"] == pytest.approx(np.mean(aps))
    assert {"label", "generate", "embed", "train", "eval"} == set(record["seconds"])
    assert len(record["hashes"]["captions file"]) == 64 and record["versions"]["torch"]
    assert said[-1].startswith("record")
    text = (out / TABLE).read_text()
    assert "figures say nothing about photos" in text and "t2i-pal, 2 shots" in text

    # Cut off between two seeds: what was measured is read back, the rest is the same.
    rows = (out / JOURNAL).read_text().splitlines(keepends=True)
    (out / JOURNAL).write_text("".join(rows[:2]))
    (out / RECORD).unlink()
    again, _, computed = go(config, voc, out)
    assert computed == 2 and again["points"] == record["points"]

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    _, said, computed = go(config, voc, out)
    assert computed == 0 and "done before" in said[-1]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    with pytest.raises(UserError, match="another steps"):
        go(replace(config, run=replace(run, steps=2)), voc, out)
    with pytest.raises(UserError, match="another benchmark"):
        go(replace(config, setting=replace(setting, shots=(1,))), voc, out)
    with pytest.raises(UserError, match="other rehearsal"):
        benchmark(config, voc, out)


def test_partial_labels_hide_the_shipped_masks_and_are_averaged(
    voc: Path, run: RunConfig, tmp_path: Path
) -> None:
    file = BenchmarkConfig.find("voc2007/rn101-dualcoop-partial")
    small = replace(file.rehearsed().run, clip=run.clip, compose=60, train=run.train, device="cpu")
    config = replace(file, run=small, setting=replace(file.setting, mask_seeds=(0, 1)))
    record, said, _ = go(config, voc, tmp_path / "run")
    assert not any(line.startswith("generated") for line in said)  # DualCoOp needs no images
    assert len(record["points"]) == 9 and record["published"][0]["mAP"] == 94.0
    kept = [int(point["real_images"][0].split("; ")[1].split()[0]) for point in record["points"]]
    assert kept == sorted(kept) and kept[0] < 0.15 * 8000 and kept[-1] > 0.85 * 8000
    assert "mask seed 1" in record["points"][0]["real_images"][1]
    means = [point["mAP"]["mean"] for point in record["points"]]
    assert record["averaged"]["mean"] == pytest.approx(np.mean(means))
    assert "mean of the above" in (tmp_path / "run" / TABLE).read_text()
    assert "Thresholds were fitted on captions" in record["notes"][0]


def test_cross_dataset_puts_tuned_contexts_before_other_names(
    coco: Path, run: RunConfig, tmp_path: Path
) -> None:
    setting = Setting("coco2014", "tai-dpt", "cross-dataset", captions="train2014")
    config = BenchmarkConfig("cross/mine", setting, replace(run, per_class=3))
    record, _, _ = go(config, coco, tmp_path / "run")
    (point,) = record["points"]
    assert len(point["classes"]) == 80 and point["threshold"] is None
    assert point["calibration_error"] is None and "no threshold was fitted" in record["notes"][0]
    with pytest.raises(UserError, match=r"'t2i-pal' cannot go to other classes"):
        go(replace(config, setting=replace(setting, method="t2i-pal")), coco, tmp_path / "other")


def test_captions_of_test_images_are_counted(coco: Path, run: RunConfig, tmp_path: Path) -> None:
    small = replace(run, classes="coco2014", seeds=(0,))
    for captions, leaks in (("train2014", False), ("train2017", True)):
        setting = Setting("coco2014", "tai-dpt", captions=captions)
        config = BenchmarkConfig("coco2014/mine", setting, small)
        record, said, _ = go(config, coco, tmp_path / captions)
        warned = [line for line in said if "are test images" in line]
        assert bool(warned) == leaks == (record["captions"]["tested"] > 0)
        ids = {int(json.loads(line)["id"].split("-")[0]) for line in
               (tmp_path / captions / "captions.jsonl").read_text().splitlines()
               if json.loads(line)["labels"] and "composed" not in line}  # fmt: skip
        tested = {int(path.stem[-12:]) for path in (coco / "val2014").iterdir()}
        assert record["captions"]["tested"] == len(ids & tested)
        assert any("WARNING" in note for note in record["notes"]) == leaks


def test_the_best_epoch_on_test_is_said_to_be_that(
    voc: Path, run: RunConfig, tmp_path: Path
) -> None:
    setting = Setting("voc2007", "tai-dpt-original/best-on-test", captions="train2017")
    config = BenchmarkConfig("voc2007/mine", setting, replace(run, seeds=(1,)))
    clip = str(build_tiny_clip(tmp_path / "clip", "resnet"))
    config = replace(config, run=replace(config.run, clip=clip))
    record, _, _ = go(config, voc, tmp_path / "run")
    assert "chosen on the test images" in record["notes"][0]
    assert record["points"][0]["mAP"]["spread"] is None  # one seed has none


def test_zero_shot_has_clips_eighty_prompts_and_one_seed(
    voc: Path, run: RunConfig, tmp_path: Path
) -> None:
    setting = Setting("voc2007", "zero-shot/imagenet", published=("clip-rn50",))
    config = BenchmarkConfig("voc2007/mine", setting, replace(run, per_class=None, compose=60))
    record, _, computed = go(config, voc, tmp_path / "run")
    assert computed == 1 and record["seeds"] == [0]
    plain = replace(config, setting=replace(setting, method="zero-shot"))
    other, _, _ = go(plain, voc, tmp_path / "plain")
    assert other["points"][0]["mAP"] != record["points"][0]["mAP"]


def test_other_than_the_official_images_are_refused(
    voc: Path, run: RunConfig, tmp_path: Path
) -> None:
    config = BenchmarkConfig(
        "voc2007/mine", Setting("voc2007", "t2i-pal", captions="train2014"), run
    )
    bare = tmp_path / "alone" / "VOCdevkit"
    bare.mkdir(parents=True)
    (bare / "VOC2007").symlink_to(voc / "VOC2007")
    with pytest.raises(UserError, match="has 300 images, officially 4,952"):
        benchmark(config, voc, tmp_path / "run")
    with pytest.raises(UserError, match="the protocol chooses the split"):
        benchmark(config, f"{voc}?split=train", tmp_path / "run")
    with pytest.raises(UserError, match=r"no captions_train2014\.json in it"):
        benchmark(config, bare, tmp_path / "run")
    with pytest.raises(UserError, match="there is no such file; check --captions"):
        benchmark(config, voc, tmp_path / "run", captions=tmp_path / "none.json")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and holds no benchmark"):
        benchmark(config, voc, tmp_path / "full")
    assert main(["benchmark", "--rehearse", "voc2007", "--out", str(tmp_path / "full")]) == 2
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "run").exists()  # nothing was begun


def test_lists_of_nus_wide_are_named_and_compared_alone(run: RunConfig, tmp_path: Path) -> None:
    data = rehearsal.build("nuswide", tmp_path / "data")
    keys = ("clip-rn50", "piaa-vit-b-16")
    setting = Setting("nuswide", "zero-shot", published=keys)
    small = replace(run, classes="nuswide", per_class=None, compose=200)
    config = BenchmarkConfig("nuswide/mine", setting, small)
    every, _, _ = go(config, data, tmp_path / "all")
    assert every["test"]["list"] == "all"
    assert [row["key"] for row in every["published"]] == ["clip-rn50"]
    some, _, _ = go(config, f"{data}?images=labelled", tmp_path / "labelled")
    assert some["test"]["list"] == "labelled" and some["published"] == []
    assert set(published().lists) >= {"all", "labelled"}


def test_what_is_rehearsed_is_the_same_method_and_protocol() -> None:
    for name in ("voc2007/rn50-t2i-pal", "nuswide/rn50-tai-dpt", "coco2014/rn50-t2i-pal-partial"):
        file = BenchmarkConfig.find(f"configs/{name}.yaml")
        small = file.rehearsed()
        assert small.run.clip == small.run.generator == "miniature"
        assert small.method == file.method and small.run.head == file.run.head
        shipped = file.setting.mask_seeds
        assert small.setting.mask_seeds == shipped[: len(small.setting.mask_seeds)]
        assert replace(small.setting, mask_seeds=shipped) == file.setting
        assert small.run.train.epochs < 5


def test_what_cannot_be_read_is_left_out_on_demand(
    coco: Path, run: RunConfig, tmp_path: Path
) -> None:
    data = tmp_path / "COCO"
    shutil.copytree(coco, data)
    first, second, *_ = sorted((data / "val2014").iterdir())
    first.unlink()
    second.write_bytes(b"no picture")
    setting = Setting("coco2014", "zero-shot")
    config = BenchmarkConfig(
        "coco2014/mine", setting, replace(run, classes="coco2014", compose=200)
    )
    with pytest.raises(UserError, match=r"1 of .* missing .*--skip-broken"):
        go(config, data, tmp_path / "run")
    skipping = replace(config, run=replace(config.run, skip_broken=True))
    record, said, _ = go(skipping, data, tmp_path / "run")
    assert record["test"]["skipped"] == 2
    assert (tmp_path / "run" / "broken.jsonl").read_text().count("\n") == 2
    assert "2 more cannot be read" in (tmp_path / "run" / TABLE).read_text()
    assert any(line.startswith("left out: 2 images") for line in said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a setting"),
        (("voc2007/rn50-t2ipal",), "did you mean 'voc2007/rn50-t2i-pal'"),
        (("voc2007/rn50-t2i-pal",), "name the folder of voc2007 with --data"),
        (("voc2007/rn50-t2i-pal", "--data", "/nowhere"), "no captions_train2014.json"),
        (("voc2007/rn50-t2i-pal", "--rehearse", "nuswide"), "use --rehearse voc2007"),
        (("--rehearse", "voc2007", "--data", "x"), "makes its own data"),
    ],
)
def test_the_command_says_what_is_missing(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"a": "b"}'])
def test_damaged_timings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "timings.json").write_text(text)
    with pytest.raises(UserError, match=r"timings\.json"):
        _Timings(tmp_path / "timings.json")
