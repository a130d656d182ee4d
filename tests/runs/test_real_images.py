"""Labelled real images beside the drawn ones: what is taken, and who trains on it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import t2ipal.runs.workbench
from conftest import TinyRun
from t2ipal.captions.labelled import read_labelled
from t2ipal.cli import main
from t2ipal.clip.backbone import Backbone
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files import sha256_file
from t2ipal.method.checkpoint import tuned_state
from t2ipal.method.items import ItemSet
from t2ipal.runs.compare import METHODS, _method_names
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import methods_of, train
from t2ipal.runs.pipeline import run
from t2ipal.runs.real_images import read_real_images
from t2ipal.runs.workbench import Workbench
from t2ipal.vocabulary import Vocabulary

KNOWN = "miniature:known:120"


@pytest.fixture(scope="module")
def config(tiny_run: TinyRun) -> RunConfig:
    """The run's configuration, with real images to train on too."""
    assert isinstance(tiny_run.config, RunConfig)
    return replace(tiny_run.config, real_images=KNOWN, shots=2)


@pytest.fixture(scope="module")
def vocabulary(tiny_run: TinyRun) -> Vocabulary:
    return Vocabulary.load(tiny_run.folder / "vocabulary.yaml")


@pytest.fixture
def bench(tiny_run: TinyRun, config: RunConfig) -> Workbench:
    return tiny_run.bench(Backbone.load(config.clip))


@pytest.fixture
def real(tiny_run: TinyRun, config: RunConfig, vocabulary: Vocabulary, bench: Workbench) -> ItemSet:
    images = read_real_images(config, vocabulary, tiny_run.folder / "scenes")
    assert images is not None
    return bench.labelled(images.images)


def given(
    monkeypatch: pytest.MonkeyPatch, bench: Workbench, method: Any, real: ItemSet | None = None
) -> dict[str, Any]:
    """What a method would be trained and evaluated on."""
    seen: dict[str, Any] = {}

    def note(head: Any, train: Any, valid: Any, config: Any, **rest: Any) -> None:
        kinds = {
            id(bench.train_captions): "captions",
            id(bench.train_images): "generated",
            id(real): "real",
        }
        seen.update(sets=[kinds[id(s)] for s in train], valid=valid, config=config, head=head)

    with monkeypatch.context() as patch:
        patch.setattr(t2ipal.runs.workbench, "fit", note)
        bench.fit(method, 0, real=real)
    return seen


def test_labels_are_hidden_first_and_shots_chosen_by_what_is_known(
    tiny_run: TinyRun, config: RunConfig, vocabulary: Vocabulary
) -> None:
    scenes = tiny_run.folder / "scenes"
    assert read_real_images(RunConfig(), vocabulary, scenes) is None
    whole = read_real_images(replace(config, shots=None), vocabulary, scenes)
    assert whole is not None and whole.summary == "120 of 120 taken"
    assert (whole.images.targets >= 0).all()
    asked = replace(config, label_fraction=0.6, mask_seed=4)
    few = read_real_images(asked, vocabulary, scenes)
    assert few is not None
    counts = (few.images.targets == 1).sum(axis=0)
    taken, known = len(few.images), int((few.images.targets >= 0).sum())
    assert counts.min() == 2 and taken <= 12
    assert 0.3 < known / few.images.targets.size < 0.9
    assert few.summary == (
        f"{taken} of 120 taken; 2 to {counts.max()} per class for 2 shots (seed 0); "
        f"{known} of their {6 * taken} labels kept (mask seed 4)"
    )
    again = read_real_images(asked, vocabulary, scenes)
    assert again is not None and np.array_equal(again.images.targets, few.images.targets)
    row = {name: labels for name, labels in zip(whole.images.names, whole.images.targets)}  # noqa: B905
    for name, labels in zip(few.images.names, few.images.targets, strict=True):
        assert np.array_equal(labels[labels >= 0], row[name][labels >= 0])


def test_every_method_trains_on_them_and_none_is_evaluated_on_them(
    bench: Workbench, real: ItemSet, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure = methods_of(config)
    without = {name: given(monkeypatch, bench, configure(name)) for name in ("tai-dpt", "t2i-pal")}
    assert without["tai-dpt"]["config"].train_on == "captions"
    assert without["t2i-pal"]["sets"] == ["captions", "generated"]
    expected = {
        "tai-dpt": (["captions", "real"], "both"),
        "t2i-pal": (["captions", "generated", "real"], "both"),
        "t2i-pal/captions": (["captions", "real"], "both"),
        "t2i-pal/images": (["captions", "generated", "real"], "images"),
        "dualcoop": (["captions", "generated", "real"], "images"),
        "dualcoop/real": (["captions", "real"], "images"),
    }
    for name, (sets, train_on) in expected.items():
        seen = given(monkeypatch, bench, configure(name), real)
        assert (seen["sets"], seen["config"].train_on) == (sets, train_on), name
        assert seen["valid"] is bench.valid, name
    held = {row.tobytes() for row in bench.valid.global_.numpy()}
    assert not any(row.tobytes() in held for row in real.global_.numpy())


def test_prototypes_of_a_method_on_captions_start_from_generated_and_real_images(
    bench: Workbench, real: ItemSet, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = methods_of(replace(config, train=replace(config.train, train_on="captions")))
    seen = given(monkeypatch, bench, method("t2i-pal"), real)
    assert seen["sets"] == ["captions", "real"]
    head = seen["head"]
    assert bench.train_images is not None
    both = ItemSet.join([bench.train_images, real])
    vectors = head.prototypes.vectors.detach().clone()
    head.start(both, seed=0)
    assert torch.equal(head.prototypes.vectors, vectors)
    head.start(real, seed=0)
    assert not torch.equal(head.prototypes.vectors, vectors)


def test_other_real_labels_are_other_data_and_none_leaves_the_old_name(
    bench: Workbench, real: ItemSet
) -> None:
    hidden = replace(real, targets=real.targets.masked_fill(real.targets == 0, -1))
    digests = [bench.digest(items) for items in (None, real, hidden)]
    assert len(set(digests)) == 3
    assert bench.digest(None) == digests[0] and bench.digest(None, real) != bench.digest(real, None)


def test_a_method_of_images_without_any_says_so(
    bench: Workbench, config: RunConfig, tiny_run: TinyRun, vocabulary: Vocabulary
) -> None:
    configure = methods_of(config)
    with pytest.raises(UserError, match=r"'dualcoop/real' trains on labelled real images and"):
        bench.fit(configure("dualcoop/real"), 0)
    captions = read_labelled(tiny_run.folder / "captions.jsonl")
    bare = Workbench(
        vocabulary, bench.backbone, tiny_run.folder / "features", captions, progress=False
    )
    with pytest.raises(
        UserError, match=r"'dualcoop' needs images and there are none: generate some"
    ):
        bare.fit(configure("dualcoop"), 0)


@pytest.mark.parametrize("method", ["t2i-pal", "tai-dpt", "dualcoop"])
def test_train_takes_shots_with_some_labels_known(
    method: str,
    tiny_run: TinyRun,
    config: RunConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = replace(config, real_images=None, shots=None)
    settings.write(tmp_path / "config.yaml")
    folder, out = tiny_run.folder, tmp_path / "model"
    arguments = [
        *("train", "--classes", folder / "vocabulary.yaml", "--images", folder, "--out", out),
        *(
            "--labelled-captions",
            folder / "captions.jsonl",
            "--clip",
            config.clip,
            "--method",
            method,
        ),
        *("--config", tmp_path / "config.yaml", "--real-images", KNOWN, "--shots", 2),
        *("--label-fraction", 0.7, "--mask-seed", 1),
    ]
    assert main([str(a) for a in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(0) == "read 120 images from 120 miniature scenes, known style"
    found = re.fullmatch(
        r"real images: (\d+) of 120 taken; 2 to \d+ per class for 2 shots \(seed 0\); "
        r"(\d+) of their (\d+) labels kept \(mask seed 1\)",
        lines[0],
    )
    assert found is not None
    taken, kept, labels = map(int, found.groups())
    assert 2 <= taken <= 12 and labels == 6 * taken and 0.4 * labels < kept < labels
    saved = json.loads((out / "config.json").read_text())
    assert saved["about"]["real_images"] == lines[0].removeprefix("real images: ")
    card = (out / "README.md").read_text()
    assert "Labelled real images were trained on too." in card and "No annotated" not in card
    assert (
        main(["eval", str(out), "--data", "miniature:24", "--features", str(folder / "scenes")])
        == 0
    )
    assert "mAP" in capsys.readouterr().out


def test_real_images_change_the_model(tiny_run: TinyRun, config: RunConfig, tmp_path: Path) -> None:
    scores = []
    for number, settings in enumerate((config, replace(config, seed=0), replace(config, shots=3))):
        tagger = train(
            tiny_run.folder / "vocabulary.yaml",
            tiny_run.folder / "captions.jsonl",
            tiny_run.folder,
            tmp_path / str(number),
            config=replace(settings, train=replace(config.train, select="last", epochs=1)),
            progress=False,
        )
        scores.append(tuned_state(tagger.clip.head)["prompts.local_context"])
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])


def test_the_table_of_a_run_has_dualcoop_where_there_are_real_images() -> None:
    assert _method_names(ablations=False, real=False, images=True) == METHODS
    names = _method_names(ablations=False, real=True, images=True)
    assert names == ("zero-shot", "clip-dpt", "tai-dpt", "dualcoop", "t2i-pal", "dualcoop/real")


def test_a_run_trains_and_compares_with_them(
    tiny_run: TinyRun, config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(tiny_run.folder, out, ignore=shutil.ignore_patterns("model", "measurements*"))
    few = replace(config, real_data=None, seeds=(0,), ablations=False)
    said: list[str] = []
    run(few, out, say=said.append, progress=False)
    assert [line for line in said if line.startswith("real images: ")]
    assert "read 120 images from 120 miniature scenes, known style" in said
    table = json.loads((out / "compare.json").read_text())
    assert {row["name"] for row in table["methods"]} == set(
        _method_names(ablations=False, real=True, images=True)
    )
    assert "Labelled real images were trained on too." in (out / "report.html").read_text()
    said.clear()
    more = replace(few, shots=3, seeds=(0,))
    run(more, out, say=said.append, progress=False)
    text = "\n".join(said)
    assert "shots (2, now 3)" in text and "nothing to generate" in text and "fitted anew" in text


def test_the_miniature_draws_other_scenes_to_train_on_than_to_test_on(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    spec = "miniature:known:4"
    real = read_real_images(RunConfig(real_images=spec), vocabulary, tmp_path)
    test = read_labelled_images(spec, vocabulary, cache=tmp_path)
    assert real is not None
    seen, tested = ({sha256_file(f) for f in part.files} for part in (real.images, test))
    assert len(seen) == len(tested) == 4 and not seen & tested


def folder_of(scenes: Path, target: Path, count: int) -> Path:
    """The first images of some scenes, labels and all, in another folder."""
    source = next(path for path in scenes.iterdir() if "-known-120-" in path.name)
    shutil.copytree(source, target)
    lines = (target / "labels.csv").read_text().splitlines()
    (target / "labels.csv").write_text("\n".join(lines[: 1 + count]) + "\n")
    return target


def test_a_test_image_to_train_on_is_refused(
    tiny_run: TinyRun, config: RunConfig, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    read_real_images(config, vocabulary, tiny_run.folder / "scenes")
    test = folder_of(tiny_run.folder / "scenes", tmp_path / "test", 9)
    out = tmp_path / "run"
    shutil.copytree(tiny_run.folder, out, ignore=shutil.ignore_patterns("model", "measurements*"))
    both = replace(config, shots=None, data=str(test))
    both.write(out / "config.yaml")
    with pytest.raises(UserError, match="9 of the 120 real images to train on are test images too"):
        run(both, out, say=lambda line: None, progress=False)
    assert not (out / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--real-images", KNOWN, "--shots", "0"),
            "--shots must be a whole number",
        ),
        (("--real-images", KNOWN, "--shots", "121"), "fewer than the 121 shots asked for"),
        (("--real-images", KNOWN, "--label-fraction", "1.5"), "at most 1, not 1.5"),
        (("--real-images", KNOWN, "--label-fraction", "0"), "above 0 and at most 1, not 0"),
        (("--real-images", "EMPTY"), "holds no labels.csv; add one"),
        (("--real-images", "EMPTY/none"), "no such folder or file"),
        (("--shots", "2"), "shots is about labelled real images and there are none"),
        (("--label-fraction", "0.5"), "label_fraction is about labelled real images"),
        (("--real-images", KNOWN, "--method", "dualcop"), "did you mean 'dualcoop'"),
        (("--real-images", KNOWN, "--method", "zero-shot"), "'zero-shot' is not trained, so real"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: tuple[str, ...],
    message: str,
    tiny_run: TinyRun,
    config: RunConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = tuple(a.replace("EMPTY", str(tmp_path / "empty")) for a in arguments)
    folder = tiny_run.folder
    fixed = [
        *(
            "train",
            "--classes",
            folder / "vocabulary.yaml",
            "--labelled-captions",
            folder / "captions.jsonl",
        ),
        *("--images", folder, "--out", tmp_path / "model", "--clip", config.clip),
    ]
    assert main([*map(str, fixed), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("t2ipal: ") and error.count("\n") == 0
    assert message in error
    assert not (tmp_path / "model").exists()


def test_a_mistake_about_real_images_leaves_the_run_folder_free(
    config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="fewer than the 121 shots"):
        run(replace(config, shots=121), out, progress=False)
    assert [path.name for path in out.iterdir()] == ["scenes"]
    with pytest.raises(UserError, match="fewer than the 50 shots"):
        run(replace(config, shots=50), out, progress=False)


def test_settings_survive_the_file_and_wrong_ones_are_named(tmp_path: Path) -> None:
    config = RunConfig(
        classes="voc2007",
        compose=3,
        real_images="photos",
        shots=4,
        label_fraction=0.1,
        mask_seed=9,
    )
    config.write(tmp_path / "config.yaml")
    assert RunConfig.read(tmp_path / "config.yaml") == config
    for change, message in (
        ({"shots": 0}, "shots must be a whole number of at least 1"),
        ({"label_fraction": 1.01}, r"label_fraction must be a number above 0 and at most 1"),
        ({"real_images": None}, "shots is about labelled real images"),
    ):
        with pytest.raises(UserError, match=message):
            replace(config, **change)  # type: ignore[arg-type]
