"""Weights wait in main memory where a device is too small, and no pixel changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_diffusion
from t2ipal.errors import UserError
from t2ipal.generation.diffusion import placement
from t2ipal.generation.diffusion.placement import (
    LEVELS,
    WORKING_BYTES,
    Placement,
    _choose,
    _part_bytes,
)
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.source import Source
from t2ipal.generation.diffusion.text_to_image import TextToImage

CPU = torch.device("cpu")
PROMPTS, SEEDS = ["a dog", "two cats", "a boat"], [3, 4, 5]


def painter(pipe: Any, place: Placement | None = None) -> TextToImage:
    return TextToImage(pipe, Source("tiny", None, "1"), Settings(steps=2, device="cpu"), place)


def drawn(generator: TextToImage) -> list[bytes]:
    return [one.image.tobytes() for one in generator.generate(PROMPTS, SEEDS)]


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    return drawn(painter(tiny_diffusion.pipeline()))


@pytest.mark.parametrize(
    ("free", "level"),
    [(60, "whole"), (59, "parts"), (30, "parts"), (29, "layers"), (-1, "layers")],
)
def test_the_fastest_level_that_fits(free: int, level: str) -> None:
    assert _choose({"unet": 30, "vae": 10, "text_encoder": 20}, WORKING_BYTES + free) == level


def test_a_pipeline_is_as_large_as_its_weights() -> None:
    pipe = tiny_diffusion.pipeline()
    sizes = _part_bytes(pipe)
    assert set(sizes) == {"unet", "vae", "text_encoder"}
    by_hand = sum(4 * weight.numel() for weight in pipe.unet.state_dict().values())
    assert sizes["unet"] == by_hand


@pytest.mark.parametrize(("part", "level"), [(2.0, "whole"), (0.9, "parts"), (0.1, "layers")])
def test_what_is_free_decides_and_changes_no_image(
    whole: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: float,
    level: str,
) -> None:
    pipe = tiny_diffusion.pipeline()
    free = int(part * sum(_part_bytes(pipe).values()))
    monkeypatch.setattr(placement, "_free_bytes", lambda device: WORKING_BYTES + free)
    place = Placement.fitting(pipe, CPU)
    assert place.level == level
    assert ("GB free" in caplog.text) == (level != "whole")
    assert drawn(painter(pipe, place)) == whole


def test_a_single_image_that_does_not_fit_moves_the_weights_out(
    whole: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(placement, "_free_bytes", lambda device: 2**40)
    pipe = tiny_diffusion.pipeline()
    place = Placement.fitting(pipe, CPU)
    generator = painter(pipe, place)
    needed, sizes = "layers", []

    class Small:
        def __call__(self, prompt: Any, **arguments: Any) -> Any:
            sizes.append((len(prompt), place.level))
            if place.level != needed or len(prompt) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return pipe(prompt, **arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(pipe, name)

    generator._pipe = Small()
    assert drawn(generator) == whole
    assert sizes[-3:] == [(1, "layers")] * 3
    assert [level for _, level in dict.fromkeys(sizes)][-3:] == list(LEVELS)
    assert caplog.text.count("out of memory with a single image; from now on") == 2
    needed = "none"
    with pytest.raises(UserError, match="out of memory with a single image; lower"):
        generator.generate(["a"], [1])


def test_a_pipeline_of_unknown_order_is_offloaded_layer_by_layer(whole: list[bytes]) -> None:
    pipe = tiny_diffusion.pipeline()
    pipe.model_cpu_offload_seq = None
    place = Placement(pipe, CPU)
    place.put("parts")
    assert place.level == "layers"
    assert drawn(painter(pipe, place)) == whole
