"""A whole run: what it leaves, that it resumes, and that its figures can be had again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TinyRun
from t2ipal.captions.labelled import read_labelled
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.features import FeatureCache, image_items
from t2ipal.errors import UserError
from t2ipal.generation.store import read_manifest
from t2ipal.method.checkpoint import tuned_state
from t2ipal.method.methods import MethodConfig, method_config
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import methods_of, train
from t2ipal.runs.pipeline import run
from t2ipal.runs.workbench import Workbench, _hold_out
from t2ipal.tagger.scoring import evaluate
from t2ipal.tagger.tagger import Tagger
from t2ipal.vocabulary import Vocabulary

LEFT = [
    "config.yaml",
    "vocabulary.yaml",
    "captions.jsonl",
    "images.jsonl",
    "images",
    "features",
    "model/config.json",
    "model/model.safetensors",
    "model/README.md",
    "metrics.jsonl",
    "measurements.jsonl",
    "compare.json",
    "report.html",
    "images.png",
    "log.txt",
]


def test_a_run_leaves_the_documented_files(tiny_run: TinyRun) -> None:
    for name in LEFT:
        assert (tiny_run.folder / name).exists(), name
    assert not [p for p in tiny_run.folder.rglob("*") if "partial" in p.name]


def test_a_second_start_computes_nothing_and_says_so(tiny_run: TinyRun) -> None:
    kept = ["captions.jsonl", "images.jsonl", "model/model.safetensors", "measurements.jsonl"]
    before = {name: (tiny_run.folder / name).stat().st_mtime_ns for name in kept}
    said: list[str] = []
    assert isinstance(tiny_run.config, RunConfig)
    result = run(tiny_run.config, tiny_run.folder, say=said.append, progress=False)
    assert {name: (tiny_run.folder / name).stat().st_mtime_ns for name in kept} == before
    assert result.comparison is not None and result.computed == 0
    text = "\n".join(said)
    for sentence in ("done before", "nothing to generate", "every method was evaluated before"):
        assert sentence in text


def test_the_written_configuration_runs_again_with_the_same_bytes(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    config = RunConfig.read(tiny_run.folder / "config.yaml")
    config = replace(config, real_data=None, ablations=False, seeds=(0,), batch_size=3)
    run(config, tmp_path / "again", say=lambda line: None, progress=False)
    for name in ("captions.jsonl", "images.jsonl", "model/model.safetensors", "vocabulary.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run.folder / name).read_bytes()


def test_the_saved_model_is_a_row_of_the_table_and_not_fitted_twice(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[str, int]] = []
    fit = Workbench.fit

    def noted(bench: Workbench, method: MethodConfig, seed: int, **given: Any) -> Any:
        fitted.append((method.name, seed))
        return fit(bench, method, seed, **given)

    monkeypatch.setattr(Workbench, "fit", noted)
    out = tmp_path / "run"
    again = shutil.ignore_patterns("model", "measurements*")
    shutil.copytree(tiny_run.folder, out, ignore=again)
    assert isinstance(tiny_run.config, RunConfig)
    run(replace(tiny_run.config, seeds=(1, 0)), out, say=lambda line: None, progress=False)
    # The ceiling is t2i-pal/images again, on other images.
    assert len(fitted) == len(set(fitted)) + 2
    rows = [json.loads(line) for line in (out / "measurements.jsonl").read_text().splitlines()]
    ours = next(row for row in rows if (row["method"], row["seed"]) == ("t2i-pal", 0))
    about = json.loads((out / "model" / "config.json").read_text())["about"]
    assert about["scores"]["mAP"] == ours["evaluation"]["mAP"]
    assert about["scores"]["OF1"] == ours["evaluation"]["top_k"]["OF1"]
    assert about["held_out_map"] == ours["held_out_map"] and about["epoch"] == ours["epoch"]
    table = json.loads((out / "compare.json").read_text())["methods"]
    row = next(row for row in table if row["name"] == "t2i-pal")
    assert row["map"][1] == ours["evaluation"]["mAP"]
    assert f"{100 * row['map'][1]:.1f}" in (out / "model" / "README.md").read_text()

    # A model that was saved before its test images were measured is measured, not fitted.
    (out / "measurements.jsonl").write_text("")
    fitted.clear()
    run(tiny_run.config, out, say=lambda line: None, progress=False)
    assert ("t2i-pal", 0) not in fitted and ("t2i-pal", 1) in fitted
    again_table = json.loads((out / "compare.json").read_text())["methods"]
    same = next(row for row in again_table if row["name"] == "t2i-pal")
    assert same["map"] == row["map"][::-1]


def _start(config: RunConfig, out: Path, **given: Any) -> str:
    """What a start says."""
    said: list[str] = []
    run(config, out, say=said.append, progress=False, **given)
    return "\n".join(said)


@pytest.fixture
def small(tiny_run: TinyRun, tmp_path: Path) -> tuple[RunConfig, Path]:
    """A copy of the finished run and its configuration, without what takes long."""
    assert isinstance(tiny_run.config, RunConfig)
    out = tmp_path / "run"
    shutil.copytree(tiny_run.folder, out)
    return replace(tiny_run.config, data=None, real_data=None), out


def _files(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(out.glob("images/*/*.png"))}


def test_settings_that_would_replace_images_are_refused_unless_overwritten(
    small: tuple[RunConfig, Path],
) -> None:
    config, out = small
    before = _files(out)
    for change in ({"seed": 5}, {"steps": 2}, {"inspect": True}):
        with pytest.raises(UserError, match=f"another {next(iter(change))} .*--overwrite"):
            run(replace(config, **change), out)  # type: ignore[arg-type]
    assert _files(out) == before
    assert RunConfig.read(out / "config.yaml").seed == 0
    said = _start(replace(config, steps=2), out, overwrite=True)
    assert "steps (1, now 2)" in said and "generated 30 images" in said
    after = _files(out)
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in after)


def test_other_settings_of_training_keep_the_images_and_the_features(
    small: tuple[RunConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = small
    model = out / "model" / "model.safetensors"
    before, weights = _files(out), _tensors(model.read_bytes())

    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("features are computed again")

    monkeypatch.setattr(Backbone, "encode_image", computed)
    said = _start(replace(config, train=replace(config.train, epochs=3)), out)
    assert "changed since the last start" in said and "train.epochs (2, now 3)" in said
    assert "nothing to generate" in said and "fitted anew" in said
    assert _files(out) == before
    assert not all(map(torch.equal, _tensors(model.read_bytes()), weights))
    assert "fitted anew" in _start(config, out)
    assert all(map(torch.equal, _tensors(model.read_bytes()), weights))
    assert "model, done before" in _start(config, out)


def test_a_start_with_more_or_fewer_captions_loses_no_image(
    small: tuple[RunConfig, Path],
) -> None:
    config, out = small
    before = _files(out)
    said = _start(replace(config, compose=36), out)
    assert "labelled anew" in said and "generated 6 images" in said and "30 reused" in said
    more = _files(out)
    assert before.items() <= more.items() and len(more) == 36
    said = _start(config, out)
    assert "6 images of captions that are not asked for now are kept" in said
    assert _files(out) == more and len(read_manifest(out)) == 30
    assert "nothing to generate" in _start(replace(config, compose=36), out)
    assert _files(out) == more and not (out / "unused.jsonl").exists()


def test_the_classes_count_and_not_the_name_of_their_file(
    small: tuple[RunConfig, Path], tmp_path: Path
) -> None:
    """With the classes in another order every product has that order."""
    config, out = small
    lines = Path(config.classes).read_text().splitlines()
    (tmp_path / "turned.yaml").write_text("\n".join(lines[::-1]) + "\n")
    captions = tmp_path / "captions.txt"
    captions.write_text(
        "".join(f"{row.caption}\n" for row in read_labelled(out / "captions.jsonl"))
    )
    config = replace(config, compose=None, captions=str(captions), data="miniature:24")
    out = tmp_path / "files"
    _start(config, out)
    (tmp_path / "same.yaml").write_text("\n".join(lines) + "\n")
    said = _start(replace(config, classes=str(tmp_path / "same.yaml")), out)
    assert "captions, done before" in said and "model, done before" in said
    said = _start(replace(config, classes=str(tmp_path / "turned.yaml")), out)
    assert "labelled anew" in said and "nothing to generate" in said and "fitted anew" in said
    tagger = Tagger.from_pretrained(out / "model")
    assert tagger.names == Vocabulary.load(tmp_path / "turned.yaml").names
    fresh = tmp_path / "fresh"
    _start(replace(config, classes=str(tmp_path / "turned.yaml")), fresh)
    for name in ("captions.jsonl", "model/model.safetensors", "model/config.json"):
        assert (out / name).read_bytes() == (fresh / name).read_bytes()
    # a caption that has changed: its labels and its image, and no other
    captions.write_text(
        captions.read_text().replace(read_manifest(out)[0].caption, "a boat at sea")
    )
    said = _start(replace(config, classes=str(tmp_path / "turned.yaml")), out)
    assert "generated 1 images" in said and "29 reused" in said


def test_further_test_images_have_columns_of_their_own(small: tuple[RunConfig, Path]) -> None:
    config, out = small
    config = replace(config, data="miniature:24", ablations=False, seeds=(0,))
    with pytest.raises(UserError, match="name the first with --data"):
        run(replace(config, data=None, also=("miniature:dev:12",)), out)
    alone = _start(config, out)
    said = _start(replace(config, also=("miniature:dev:12", "miniature:style:10")), out)
    table = json.loads((out / "compare.json").read_text())
    assert table["also"][1] == "10 miniature scenes, held-out style (10 images)"
    rows = {row["name"]: row for row in table["methods"]}
    found = evaluate(out / "model", "miniature:style:10", cache=out / "scenes", progress=False)
    assert rows["t2i-pal"]["also"][1][0] == pytest.approx(found.mean_average_precision, abs=1e-6)
    for name, row in rows.items():
        assert f"{100 * row['map'][0]:5.1f}" in next(
            line for line in alone.splitlines() if line.startswith(name + " ")
        )
        line = next(line for line in said.splitlines() if line.startswith(name + " "))
        assert all(f"{100 * values[0]:5.1f}" in line for values in row["also"])
    assert "mAP 3: on 10 miniature scenes" in said
    page = (out / "report.html").read_text()
    assert '<th scope="col">mAP 3</th>' in page and "mAP 2 is on 12 miniature scenes" in page


def test_weak_classes_are_named(small: tuple[RunConfig, Path]) -> None:
    """A random CLIP finds nothing, which the run, its card and its report say."""
    config, out = small
    said = _start(config, out)
    assert "weak: " in said
    about = json.loads((out / "model" / "config.json").read_text())["about"]["classes"]
    tagger = Tagger.from_pretrained(out / "model")
    assert tuple(about) == tagger.names
    for name, found in about.items():
        images = [row for row in read_manifest(out) if name in row.labels]
        assert 0 <= found["found"] <= found["images"] <= len(images)
    first = next(line for line in said.splitlines() if line.startswith("weak: "))
    assert first[1:] in (out / "model" / "README.md").read_text()
    assert first[1:20] in (out / "report.html").read_text()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        run(RunConfig(classes="voc2007", compose=3), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_evaluate_gives_the_figure_of_the_table(tiny_run: TinyRun) -> None:
    table = json.loads((tiny_run.folder / "compare.json").read_text())
    row = next(row for row in table["methods"] if row["name"] == "t2i-pal")
    found = evaluate(
        tiny_run.folder / "model", "miniature:24", cache=tiny_run.folder / "scenes", progress=False
    )
    assert found.images == 24
    assert found.mean_average_precision == pytest.approx(row["map"][0], abs=1e-6)


def test_crops_are_seen_alike_by_tagger_workbench_and_evaluation(tiny_run: TinyRun) -> None:
    model = tiny_run.folder / "model"
    whole = Tagger.from_pretrained(model)
    tagger = Tagger.from_pretrained(model, crops=2)
    cache = tiny_run.folder / "features"
    files = [tiny_run.folder / row.file for row in read_manifest(tiny_run.folder)[:5]]
    items = image_items(
        FeatureCache(cache, tagger.backbone),
        files,
        np.zeros((5, len(tagger.names)), dtype=np.int8),
        crops=2,
    )
    assert len(items.crops) == 4
    scores = tagger.head.score_items(items).numpy()
    expected = tagger.thresholds.probabilities(scores)
    found = np.stack([tagged.probabilities for tagged in tagger.stream(files)])
    assert found == pytest.approx(expected, abs=2e-3)  # local features are kept in half precision
    assert whole.crops == 0 and tagger.crops == 2
    unseen = whole.head.score_items(items.whole()).numpy()
    assert np.abs(scores - unseen).max() > 1e-3
    same, closer = (
        evaluate(model, "miniature:24", cache=tiny_run.folder / "scenes", crops=n, progress=False)
        for n in (None, 2)
    )
    assert same.average_precision != closer.average_precision


def test_a_run_with_crops_keeps_them_in_its_model(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = replace(RunConfig.read(tiny_run.folder / "config.yaml"), data=None, crops=2)
    tagger = train(
        tiny_run.folder / "vocabulary.yaml",
        tiny_run.folder / "captions.jsonl",
        tiny_run.folder,
        tmp_path / "model",
        config=config,
        progress=False,
    )
    assert tagger.crops == Tagger.from_pretrained(tmp_path / "model").crops == 2
    plain = Tagger.from_pretrained(tiny_run.folder / "model")
    # Training does not see the crops, the thresholds do.
    for name, tensor in tuned_state(plain.head).items():
        assert torch.equal(tensor, tuned_state(tagger.head)[name])
    assert tagger.thresholds != plain.thresholds


def test_the_table_has_methods_ablations_and_the_ceiling(tiny_run: TinyRun) -> None:
    table = json.loads((tiny_run.folder / "compare.json").read_text())
    groups = {row["name"]: (row["group"], len(row["map"])) for row in table["methods"]}
    assert groups["zero-shot"] == ("method", 1)
    assert groups["tai-dpt"] == groups["t2i-pal"] == ("method", 2)
    assert groups["t2i-pal/no-heatmap"] == ("ablation", 2)
    assert groups["t2i-pal on real images"] == ("ceiling", 2)
    pairs = {(row["first"], row["second"]) for row in table["modality_gap"]}
    assert len(pairs) == 3


def test_train_alone_equals_the_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = RunConfig.read(tiny_run.folder / "config.yaml")
    tagger = train(
        tiny_run.folder / "vocabulary.yaml",
        tiny_run.folder / "captions.jsonl",
        tiny_run.folder,
        tmp_path / "model",
        config=config,
        progress=False,
    )
    ours = (tmp_path / "model" / "model.safetensors").read_bytes()
    theirs = (tiny_run.folder / "model" / "model.safetensors").read_bytes()
    same = [torch.equal(a, b) for a, b in zip(*(_tensors(x) for x in (ours, theirs)), strict=True)]
    assert all(same)
    assert tagger.about["method"] == "t2i-pal"


def _tensors(data: bytes) -> list[torch.Tensor]:
    from safetensors.torch import load

    return [tensor for _, tensor in sorted(load(data).items())]


def test_the_saved_model_holds_tuned_tensors_only(tiny_run: TinyRun) -> None:
    data = (tiny_run.folder / "model" / "model.safetensors").read_bytes()
    from safetensors.torch import load

    names = set(load(data))
    assert {name.split(".")[0] for name in names} == {
        "class_embeddings",
        "prompts",
        "prototypes",
        "adapter",
    }
    card = (tiny_run.folder / "model" / "README.md").read_text()
    assert "city bus" in card and "T2I-PAL" in card


def test_a_saved_and_reloaded_tagger_is_the_same_to_the_byte(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    files = [tiny_run.folder / row.file for row in read_manifest(tiny_run.folder)[:5]]
    first = Tagger.from_pretrained(tiny_run.folder / "model")
    second = Tagger.from_pretrained(first.save_pretrained(tmp_path / "again"))
    for file in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / file).read_bytes() == (
            tiny_run.folder / "model" / file
        ).read_bytes()
    assert second.backbone.resize_mode == "squash"  # not the model's own
    assert second.vocabulary == Vocabulary.load(tiny_run.folder / "vocabulary.yaml")
    a, b = ([t.probabilities for t in tagger.stream(files)] for tagger in (first, second))
    assert np.array_equal(np.stack(a), np.stack(b))


def test_the_settings_of_the_run_reach_t2i_pal_and_the_budget_reaches_all(
    tiny_run: TinyRun,
) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    configure = methods_of(tiny_run.config)
    ablated = configure("t2i-pal/no-adapter")
    assert ablated.head.prompts.context_tokens == 14 and ablated.head.adapter.kind == "none"
    baseline = configure("tai-dpt")
    assert baseline.head == method_config("tai-dpt").head
    assert baseline.train is not None and baseline.train.epochs == 2
    assert baseline.train.train_on == "captions"
    assert configure("zero-shot").train is None


def test_held_out_captions_leave_every_class_something(tiny_run: TinyRun) -> None:
    captions = read_labelled(tiny_run.folder / "captions.jsonl")
    held = _hold_out(captions)
    assert 0 < len(held) <= round(0.2 * len(captions))
    kept = {name for row in captions if row.id not in held for name in row.labels}
    assert kept == {name for row in captions for name in row.labels}
    assert _hold_out(captions[::-1]) == held


def test_no_held_out_image_shares_its_caption_with_a_training_one(tiny_run: TinyRun) -> None:
    config = RunConfig.read(tiny_run.folder / "config.yaml")
    bench = tiny_run.bench(Backbone.load(config.clip))
    assert bench.train_images is not None
    total = len(bench.train_images) + len(bench.valid)
    assert total == len(read_manifest(tiny_run.folder))
    assert len(bench.train_captions) == len(bench.train_images)
    assert bench.valid.kind == "image"


def test_the_report_is_one_file_with_captions_scenes_and_the_table(tiny_run: TinyRun) -> None:
    page = (tiny_run.folder / "report.html").read_text()
    for text in ("t2i-pal", "tai-dpt", "city bus", "data:image/"):
        assert text in page
    assert "<script" not in page and 'src="http' not in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nope"}, "nope: no such folder or file"),
        ({"real_data": "nope"}, "nope: no such folder or file"),
        ({"clip": "ViT-B-16"}, "say which weights"),
        ({"generator": "no/where/at/all"}, "no/where/at/all"),
        ({"captions": "gone.txt", "compose": None}, "gone.txt: cannot be read"),
        ({"data": "photos"}, "1 of 2 images cannot be read: 'photos/dog/empty.png'"),
        ({"classes": "one.yaml"}, "'dog' is the only class"),
    ],
)
def test_mistakes_are_found_before_anything_is_made(
    tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    message: str,
) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text("- dog\n")
    Path("photos/dog").mkdir(parents=True)
    Path("photos/dog/empty.png").touch()
    Image.new("RGB", (30, 20)).save("photos/dog/whole.png")
    out = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        run(replace(tiny_run.config, **changes), out, progress=False)
    assert not (out / "config.yaml").exists() and not (out / "images").exists()
