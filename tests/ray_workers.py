"""What the tests put into the processes of a Ray cluster: it must be importable there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import GeneratedImage


def die_once(flag: Path) -> None:
    """SIGKILL this process, unless one has died of the same ``flag`` before."""
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Counting:
    """A worker that squares numbers, and dies of 2, refuses 3, and stumbles over 4."""

    def do(self, unit: int) -> int:
        if unit == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if unit == 3:
            raise UserError("three is refused.")
        return unit * unit // (unit - 4)


@dataclass(frozen=True)
class Noise:
    """A generator of noise; every fifth drawing is black. ``dies`` once at its tenth drawing."""

    dies: Path | None = None
    pause: float = 0.0
    side: int = 48
    spec: str = "noise"
    revision: str = "1"
    settings: Settings = field(default_factory=Settings)

    @property
    def generated_on(self) -> dict[str, str]:
        return {"device": "cpu", "dtype": "float32"}

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[GeneratedImage]:
        time.sleep(self.pause)
        drawn = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            if self.dies is not None and prompt.endswith(" 9"):
                die_once(self.dies)
            most = 256 if seed % 5 else 1
            pixels = np.random.default_rng(seed).integers(0, most, (self.side, self.side, 3))
            drawn.append(GeneratedImage(Image.fromarray(pixels.astype(np.uint8)), False))
        return drawn


def load_clip(folder: Path, shard_items: int, dies: Path | None = None, pause: float = 0.0) -> Any:
    """A tiny CLIP whose cache has small shards; ``dies`` once, at the second batch of images."""
    from t2ipal.clip import features
    from t2ipal.clip.backbone import Backbone
    from t2ipal.clip.clip_settings import ClipSettings

    features._SHARD_ITEMS = shard_items  # this process is the test's own
    backbone = Backbone.load(ClipSettings(clip=str(folder), device="cpu"))
    encode, calls = backbone.encode_image, []

    def slow(pixels: Any) -> Any:
        calls.append(len(pixels))
        time.sleep(pause)
        if dies is not None and len(calls) == 2:
            die_once(dies)
        return encode(pixels)

    backbone.encode_image = slow  # type: ignore[method-assign]
    return backbone
