"""The frozen CLIP as an inspector, and what becomes of its findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import TinyRun
from t2ipal.captions.labelled import LabelledCaption
from t2ipal.cli import main
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.files import write_jsonl
from t2ipal.generation.inspector import ClipInspector
from t2ipal.generation.store import read_manifest
from t2ipal.method.train_config import TrainConfig
from t2ipal.miniature.scenes import random_scene, scene_rng
from t2ipal.report.contact import write_inspected
from t2ipal.runs.config import RunConfig
from t2ipal.runs.held_out import GeneratedImages, NamedCaptions
from t2ipal.runs.pipeline import run
from t2ipal.vocabulary import Vocabulary

VOCABULARY = Vocabulary.load("voc2007")
SCENES = [random_scene(scene_rng("inspection", 0, i), split="known") for i in range(40)]


def labelled(names: tuple[str, ...]) -> LabelledCaption:
    return LabelledCaption(id="c", caption="", labels=names, unknown=(), matches={})


def test_clip_sees_what_is_there_and_misses_what_is_not() -> None:
    """On scenes of styles that the miniature CLIP knows: their own labels against those of the
    scene after next, where these are others."""
    inspector = ClipInspector(ClipSettings(), VOCABULARY)
    shown = [tuple(set(scene.plan.names) & set(VOCABULARY.names)) for scene in SCENES]
    pairs = [
        (scene, own, tuple(set(other) - set(own)))
        for scene, own, other in zip(SCENES, shown, [*shown[2:], *shown[:2]], strict=True)
        if own and set(other) - set(own)
    ]
    images = [scene.image for scene, _, _ in pairs]
    right = inspector.inspect(images, [labelled(own) for _, own, _ in pairs])
    wrong = inspector.inspect(images, [labelled(other) for _, _, other in pairs])
    missed = sum(len(finding.missing) for finding in right) / sum(len(own) for _, own, _ in pairs)
    caught = sum(len(finding.missing) for finding in wrong) / sum(len(o) for _, _, o in pairs)
    assert missed < 0.2 < 0.6 < caught
    assert any(
        set(finding.added) & set(own) for finding, (_, own, _) in zip(wrong, pairs, strict=True)
    )


def test_a_finding_depends_on_its_image_alone() -> None:
    inspector = ClipInspector(ClipSettings(), VOCABULARY, patience=0)
    images, rows = [scene.image for scene in SCENES], [labelled(("dog", "car"))] * len(SCENES)
    together = inspector.inspect(images, rows)
    alone = [inspector.inspect([image], [row])[0] for image, row in zip(images, rows, strict=True)]
    assert together == alone and len(set(together)) > 2


def test_doubts_become_unknown_but_no_class_loses_all_its_images(tiny_run: TinyRun) -> None:
    vocabulary = Vocabulary.load(tiny_run.folder / "vocabulary.yaml")
    row = read_manifest(tiny_run.folder)[0]
    rows = [
        replace(row, labels=("dog", "cat"), unknown=("bus",), missing=("cat",), added=("boat",)),
        replace(row, labels=("cat",), unknown=(), missing=(), added=()),
        replace(row, labels=("car", "dog"), unknown=(), missing=("car",), added=()),
    ]
    rows = [replace(row, caption_id=str(number)) for number, row in enumerate(rows)]
    captions = [
        LabelledCaption(row.caption_id, row.caption, row.labels, row.unknown, {}) for row in rows
    ]
    found = GeneratedImages(rows, NamedCaptions(captions, vocabulary))
    targets = found.targets(np.arange(len(rows)))
    names = vocabulary.names  # dog person cat bus car boat
    assert names == ("dog", "person", "cat", "bus", "car", "boat")
    assert targets.tolist() == [[1, 0, -1, -1, 0, -1], [0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0]]


def test_a_run_with_inspection_retries_and_shows_it(tiny_run: TinyRun, tmp_path: Path) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    train = TrainConfig(epochs=1, batch_size=16)
    config = replace(
        tiny_run.config,
        inspect=True,
        data=None,
        real_data=None,
        max_retries=1,
        patience=2,
        train=train,
    )
    said: list[str] = []
    run(config, tmp_path / "run", say=said.append, progress=False)
    rows = read_manifest(tmp_path / "run")
    assert any(row.missing for row in rows) and any(row.added for row in rows)
    assert all(row.seen for row in rows)
    assert "found unasked" in "\n".join(said)
    assert (tmp_path / "run" / "inspected.png").stat().st_size > 1000
    again: list[str] = []
    run(config, tmp_path / "run", say=again.append, progress=False)
    assert any("nothing to generate" in line for line in again)


def test_generate_inspects_on_the_command_line(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(tiny_run.config, RunConfig)
    arguments = [
        "generate", "--labelled-captions", str(tiny_run.folder / "captions.jsonl"), "--generator",
        tiny_run.config.generator, "--steps", "1", "--out", str(tmp_path / "out"),
        "--inspect", "--clip", tiny_run.config.clip,
    ]  # fmt: skip
    assert main(arguments) == 2
    assert "name them with --classes" in capsys.readouterr().err
    classes = str(tiny_run.folder / "vocabulary.yaml")
    assert main([*arguments, "--classes", classes, "--patience", "1", "--max-retries", "1"]) == 0
    assert "doubtful images are shown in" in capsys.readouterr().out
    assert (tmp_path / "out" / "inspected.png").exists()


def test_a_set_without_doubts_has_no_sheet(tiny_run: TinyRun, tmp_path: Path) -> None:
    sure = [
        replace(row, missing=(), added=(), rejected=(), fingerprint="")
        for row in read_manifest(tiny_run.folder)
    ]
    write_jsonl(tmp_path / "images.jsonl", sure)
    assert write_inspected(tmp_path) is None
    assert not (tmp_path / "inspected.png").exists()


def test_findings_are_of_numbers_of_the_right_shape() -> None:
    inspector = ClipInspector(ClipSettings(), VOCABULARY)
    assert inspector.inspect([], []) == []
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    from PIL import Image

    (finding,) = inspector.inspect([Image.fromarray(noise)], [labelled(())])
    assert finding.missing == finding.added == ()
