"""Presets fill in what is not given, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import TinyRun
from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.generation.diffusion.settings import PRESETS
from t2ipal.runs.config import RunConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_generator_with_settings_that_hold(name: str) -> None:
    config = RunConfig(classes="voc2007", compose=1, preset=name).with_preset()
    preset = PRESETS[name]
    assert config.generator == preset.generator and config.generator.count("/") == 1
    assert (config.steps, config.guidance) == (preset.steps, preset.guidance)
    assert config.height == config.width == preset.side
    assert config.with_preset() == config  # a written configuration stays what it is


def test_what_is_given_wins() -> None:
    config = RunConfig(preset="paper", steps=20, height=768, width=512).with_preset()
    assert (config.steps, config.guidance, config.height, config.width) == (20, 7.5, 768, 512)
    own = RunConfig(preset="fast", generator="my/model", guidance=1.5).with_preset()
    assert (own.generator, own.steps, own.guidance) == ("my/model", 2, 1.5)
    demonstration = RunConfig(preset="fast", generator="miniature").with_preset()
    assert (demonstration.generator, demonstration.steps) == ("miniature", 2)
    plain = RunConfig().with_preset()
    assert plain == RunConfig(generator="miniature") and plain.with_preset() is plain


def test_an_unknown_preset_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"preset must be one of paper, .*'papre' .*'paper'"):
        RunConfig(preset="papre")  # type: ignore[arg-type]


def test_generate_wants_a_generator_or_a_preset(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "--labelled-captions", str(tiny_run.folder / "captions.jsonl")]
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert "name a --generator" in capsys.readouterr().err
