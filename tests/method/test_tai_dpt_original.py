"""TaI-DPT's own protocol end to end: its pooling, its template captions, its choice of epoch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import t2ipal.runs.workbench
from conftest import TinyRun
from t2ipal.cli import main
from t2ipal.clip.backbone import Backbone
from t2ipal.errors import UserError
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import method_config
from t2ipal.miniature.scenes import write_test_set
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import train
from t2ipal.runs.workbench import Workbench
from t2ipal.tagger.tagger import Tagger
from t2ipal.vocabulary import Vocabulary
from tiny_clip import build_tiny_clip

NAME = "tai-dpt-original"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny_clip(tmp_path_factory.mktemp("original") / "clip", "resnet"))


@pytest.fixture(scope="module")
def bench(tiny_run: TinyRun, clip: str, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return tiny_run.bench(
        Backbone.load(clip, pool_positions=False), tmp_path_factory.mktemp("cache")
    )


def handed_over(
    bench: Workbench,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    test: ItemSet | None = None,
) -> tuple[list[Any], Any, Any]:
    seen: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(t2ipal.runs.workbench, "fit", lambda *given, seed, log: seen.extend(given))
        bench.fit(method_config(method), 0, test=test)
    _, train, valid, config = seen
    return train, valid, config


def test_it_trains_on_captions_and_89_templates_a_class(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid, config = handed_over(bench, NAME, monkeypatch)
    captions, images, templates = train
    assert captions is bench.train_captions and images is bench.train_images
    assert config.train_on == "captions"
    assert valid is bench.valid and config.select == "best"
    assert templates.kind == "caption"
    assert templates.targets.sum(0).tolist() == [89] * len(bench.vocabulary)
    assert set(templates.targets.sum(1).tolist()) == {1}
    bare, _, _ = handed_over(bench, f"{NAME}/no-templates", monkeypatch)
    assert len(bare) == 2


def test_the_test_images_choose_the_epoch_only_where_that_is_asked_for(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    flawed = f"{NAME}/best-on-test"
    with pytest.raises(UserError, match=r"chooses its epoch by the test images: name them with"):
        handed_over(bench, flawed, monkeypatch)
    test = bench.valid.take(bench.valid.targets[:, 0].argsort())
    _, chosen_on, config = handed_over(bench, flawed, monkeypatch, test)
    assert chosen_on is test and config.select == "best"
    assert handed_over(bench, NAME, monkeypatch, test)[1] is bench.valid


def test_features_pooled_in_another_way_are_refused(
    tiny_run: TinyRun, bench: Workbench, clip: str, tmp_path: Path
) -> None:
    other = tiny_run.bench(Backbone.load(clip), tmp_path)
    with pytest.raises(UserError, match=r"'tai-dpt-original' reads global features pooled in an"):
        other.fit(method_config(NAME), 0)
    with pytest.raises(UserError, match=r"'tai-dpt' reads global features pooled in another way"):
        bench.fit(method_config("tai-dpt"), 0)
    assert not np.allclose(other.valid.global_, bench.valid.global_, atol=1e-3)
    assert np.allclose(other.valid.local, bench.valid.local, atol=1e-3)


@pytest.mark.parametrize("flawed", [False, True])
def test_train_and_eval(
    flawed: bool, tiny_run: TinyRun, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    replace(tiny_run.config, data=None).write(tmp_path / "config.yaml")
    folder, out = tiny_run.folder, tmp_path / "model"
    arguments = [
        *("train", "--classes", folder / "vocabulary.yaml", "--images", folder, "--out", out),
        *("--labelled-captions", folder / "captions.jsonl", "--clip", clip),
        *("--features", tmp_path / "features", "--config", tmp_path / "config.yaml"),
        *("--method", f"{NAME}/best-on-test" if flawed else NAME),
        *(("--data", "miniature:24") if flawed else ()),
    ]
    assert main([str(a) for a in arguments]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["backbone"]["pool_positions"] is False
    assert config["about"]["method"].endswith("best-on-test") == flawed
    assert Tagger.from_pretrained(out).clip.backbone.pool_positions is False
    capsys.readouterr()
    data = ("--data", "miniature:24", "--features", str(folder / "scenes"))
    assert main(["eval", str(out), *data]) == 0
    assert "mAP" in capsys.readouterr().out


def test_test_images_may_not_be_trained_on_where_they_choose_the_epoch(
    tiny_run: TinyRun, clip: str, tmp_path: Path
) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    write_test_set(tmp_path / "photos", 30)
    photos = str(tmp_path / "photos")
    config = replace(tiny_run.config, clip=clip, data=photos, real_images=photos)
    with pytest.raises(UserError, match=r"^30 of the 30 real images to train on are test images"):
        train(
            Vocabulary.load("voc2007"),
            tiny_run.folder / "captions.jsonl",
            tiny_run.folder,
            tmp_path / "model",
            method=f"{NAME}/best-on-test",
            features=tmp_path / "features",
            config=config,
            progress=False,
        )
    assert not (tmp_path / "model").exists()
