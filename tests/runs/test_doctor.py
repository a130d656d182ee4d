"""t2ipal doctor: what is here, what is missing, what a run costs; nothing is fetched or written."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from conftest import TinyRun
from t2ipal.cli import main
from t2ipal.clip.load import why_not_here
from t2ipal.runs.config import RunConfig
from t2ipal.runs.doctor import examine
from t2ipal.runs.workbench import Workbench


def texts(config: RunConfig, out: Path, **options: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in examine(config, out, **options):
        found.setdefault(finding.topic, []).append(str(finding))
    return found


def test_sizes_are_those_of_the_run_and_nothing_is_written(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    found = texts(tiny_run.config, tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []
    bench: Workbench = tiny_run.bench(_backbone(tiny_run.config))
    assert bench.train_images is not None
    images = len(bench.train_images) + len(bench.valid)
    assert f"{images} images to generate" in found["run"][0]
    one = bench.valid.take(torch.tensor([0]))
    size = one.global_.nbytes + one.local.nbytes
    assert f"{size / 1000:.3g} kB per image" in found["features"][0]
    assert not any("MISSING" in line for lines in found.values() for line in lines)
    assert "--measure" in found["time"][0]


def _backbone(config: RunConfig) -> Any:
    from t2ipal.clip.backbone import Backbone

    return Backbone.load(config)


def test_times_are_measured(tiny_run: TinyRun, tmp_path: Path) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    lines = texts(tiny_run.config, tmp_path, measure=True)["time"]
    assert [line.split()[1] for line in lines] == ["generating", "embedding", "measured"]


def test_what_is_missing_is_said_with_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    arguments = ["doctor", "--clip", "RN50:openai", "--preset", "fast", "--revision", "abc"]
    assert main(arguments) == 1
    missing = [line for line in capsys.readouterr().out.splitlines() if "MISSING" in line]
    assert "hf download timm/resnet50_clip.openai" in missing[0]
    assert "hf download stabilityai/sd-turbo" in missing[1]
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "name --classes" in said
    assert "miniature is here (small, packaged, knows icon scenes and no photos)" in said
    assert main(["doctor", "--clip", "photo"]) == 0
    assert "photo is here (small, packaged, knows photos)" in capsys.readouterr().out


def test_captions_that_are_not_given_or_not_there_are_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, said in (([], "give --captions FILE"), (["--captions", "no.txt"], "no.txt")):
        out = ["--out", str(tmp_path / "out")]
        assert main(["doctor", "--classes", "voc2007", *given, *out]) == 1
        output = capsys.readouterr()
        missing = [line for line in output.out.splitlines() if line.startswith("MISSING captions")]
        assert len(missing) == 1 and said in missing[0] and not output.err


def test_a_disk_that_is_too_small_is_missing_something(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 999, 999))
    assert isinstance(tiny_run.config, RunConfig)
    found = texts(tiny_run.config, tmp_path)
    assert "MISSING" in found["disk"][1] and "999 bytes are free" in found["disk"][1]


def test_labelled_images_of_any_kind_are_looked_at(tiny_run: TinyRun, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (40, 30), "red").save(photos / name)
    labels = photos / "labels.csv"
    assert isinstance(tiny_run.config, RunConfig)
    config = replace(
        tiny_run.config, data=str(photos), also=(str(photos),), real_images=str(photos)
    )

    labels.write_text("image,labels\na.png,dog\nb.png,person;cat\nc.png,\n")
    found = texts(config, tmp_path / "out")
    for topic in ("data", "also", "real-images"):
        assert "3 images, 3 labels present" in found[topic][0]
        assert "no image shows 'bus', 'car', 'boat'" in found[topic][1]
    assert not any("MISSING" in line for line in found["data"])
    assert "rendered when a run needs it" in found["real-data"][0]

    (photos / "b.png").write_bytes(b"")
    for text, reason in (
        (labels.read_text(), "1 of 3 images cannot be read"),
        ("image,labels\na.png,dgo\n", "unknown class 'dgo'"),
    ):
        labels.write_text(text)
        line = texts(config, tmp_path / "out")["data"][0]
        assert "MISSING" in line and reason in line


def test_what_a_run_would_do_with_a_folder_is_said(tiny_run: TinyRun) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    config = replace(tiny_run.config, train=replace(tiny_run.config.train, epochs=9))
    assert "train.epochs (2, now 9)" in texts(config, tiny_run.folder)["folder"][0]
    lines = texts(replace(tiny_run.config, steps=2), tiny_run.folder)["folder"]
    assert "MISSING" in lines[0] and "another steps" in lines[0]


def test_classes_without_a_caption_and_one_class_alone_are_said(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    captions = tmp_path / "captions.txt"
    captions.write_text("a dog runs\na man and a cat\n")
    config = replace(tiny_run.config, compose=None, captions=str(captions))
    line = texts(config, tmp_path)["captions"][0]
    assert "'bus', 'car', 'boat': 4 are composed for each" in line and "MISSING" not in line
    assert "MISSING" in texts(replace(config, complete=0), tmp_path)["captions"][0]
    assert "too few captions" in texts(replace(config, complete=0), tmp_path)["captions"][1]
    captions.write_text("nothing here\n")
    assert "MISSING" in texts(config, tmp_path)["captions"][0]
    (tmp_path / "one.yaml").write_text("- dog\n")
    found = texts(replace(tiny_run.config, classes=str(tmp_path / "one.yaml")), tmp_path)
    assert "'dog' is the only class" in found["classes"][0]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("miniature", None),
        ("RN51:openai", "neither a folder nor a model of open_clip"),
        ("RN50:opnai", "no weights 'opnai'"),
        ("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "hf download laion/"),
        ("hf-hub:a b", "Repo id"),
        ("ViT-B-16-SigLIP:webli", "run: hf download timm/ViT-B-16-SigLIP"),
        ("ViTamin-S:datacomp1b", "hf download jienengchen/ViTamin-S pytorch_model.safetensors"),
    ],
)
def test_why_a_clip_is_not_here(spec: str, reason: str | None) -> None:
    found = why_not_here(spec)
    assert found is None if reason is None else found is not None and reason in found


def test_weights_in_the_cache_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from t2ipal.clip import load as sources

    monkeypatch.setattr(sources, "try_to_load_from_cache", lambda repo, file, **_: f"{repo}/{file}")
    assert why_not_here("ViT-B-16-SigLIP:webli") is None
    assert why_not_here("hf-hub:org/name@v1") is None
