"""The run's configuration: strict YAML, and a round trip through it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from t2ipal.errors import UserError, options_of, read_settings
from t2ipal.method.head_config import AdapterConfig, HeadConfig
from t2ipal.method.train_config import TrainConfig
from t2ipal.runs.config import RunConfig


def test_written_and_read_back_it_is_equal(tmp_path: Path) -> None:
    config = RunConfig(
        classes="voc2007",
        compose=5,
        guidance=3,
        seeds=(4, 2),
        ablations=False,
        head=HeadConfig(adapter=AdapterConfig(alpha=0.25)),
        train=TrainConfig(epochs=3, ema=0.9),
    )
    config.write(tmp_path / "config.yaml")
    assert RunConfig.read(tmp_path / "config.yaml") == config


def test_missing_keys_keep_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("classes: coco2014\nhead: {adapter: {alpha: 2}}\n")
    expected = replace(
        RunConfig(classes="coco2014"), head=HeadConfig(adapter=AdapterConfig(alpha=2))
    )
    assert RunConfig.read(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clases: voc2007", "config.yaml:1: unknown key 'clases'.*did you mean 'classes'"),
        ("steps: many", "steps must be a whole number of at least 1, not 'many'"),
        ("ablations: 1", "ablations must be true or false"),
        ("seed: true", "seed must be a whole number"),
        ("seeds: 3", "seeds must be a list"),
        ("seeds: [1, 1]", "different numbers"),
        ("head: {adaptor: {}}", "unknown key 'head.adaptor'.*did you mean 'adapter'"),
        ("batch_size: 0", "batch_size must be a whole number of at least 1"),
        (
            "spread: cooccurrence",
            "spread must be one of .*'cooccurrence'.*did you mean 'co-occurrence'",
        ),
        ("crops: 1", "crops must be 0 .none. or at least 2 per side"),
        ("max_retries: -1", "max_retries must be a whole number of at least 0"),
        (
            "seed: 1\nhead:\n  adapter:\n    alpha: x",
            "yaml:4: head.adapter.alpha must be",
        ),
        ("classes: voc2007\n\n# device\ndevice: xpu", "yaml:4: device must be one of auto, cpu"),
        ("compose: 1000000000000", "compose must be at most 10000000, not 1000000000000"),
        ("crops: 3000", "crops must be a whole number from 0 to 10, not 3000"),
        ("image_size: 100000", "image_size must be at most 4096, not 100000"),
        ("height: 80000\nwidth: 8", "height must be .*not 80000"),
        ("train: {batch_size: 100000}", "batch_size must be at most 65536"),
        ("train: {seed: 3}", "unknown key 'train.seed'"),
        ("shots: 2", "yaml: shots is about labelled real images"),
        ("seeds: [0, x]", "yaml:1: seeds must be a whole number of at least 0, not 'x'"),
        ("a: [1", "config.yaml:[12]: is not YAML"),
        ("- a", "expected keys and values"),
    ],
)
def test_a_bad_file_gets_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text + "\n")
    with pytest.raises(UserError, match=message):
        RunConfig.read(path)


def test_classes_and_one_source_of_captions_are_required() -> None:
    RunConfig(classes="voc2007", compose=3).require()
    for config, message in (
        (RunConfig(compose=3), "no classes"),
        (RunConfig(classes="voc2007"), "no captions"),
        (RunConfig(classes="voc2007", compose=3, captions="a.txt"), "exclude each other"),
    ):
        with pytest.raises(UserError, match=message):
            config.require()


def test_every_number_of_things_to_make_or_hold_is_bounded() -> None:
    """Others only end a loop early: so many of what is there."""
    only_less = {"limit", "per_class", "shots", "patience", "train.verify.patience"}
    only_less |= {"train.evaluate_every", "head.adapter.reduction", "head.fusion.min_classes"}
    only_less |= {"train.classes_per_step"}
    for option in options_of(RunConfig):
        name = option.key.rpartition(".")[2]
        if option.type is not int or "seed" in name or option.key in only_less:
            continue
        with pytest.raises(UserError, match=f"{name} must be"):
            read_settings(RunConfig, nested(option.key, 10**8 + 8))


def nested(key: str, value: object) -> dict[str, Any]:
    """``{"a": {"b": value}}`` for the key ``a.b``."""
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}
