"""What a check is, where it is made, and what stands in for photos, CLIP and generator there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from t2ipal.clip.clip_settings import DeviceSettings, Precision
from t2ipal.errors import UserError
from t2ipal.generation.diffusion.settings import GenerationSettings, PresetName
from t2ipal.runs.fitting import Say


class NotPossible(Exception):
    """A check cannot be made on this machine; the message says why."""


@dataclass(frozen=True)
class Setup:
    """Where and how checks are made.

    Attributes:
        folder: for what they make; kept, so that an interrupted one resumes.
        rehearsal: small stand-ins instead of published weights and archives, and no GPU.
        say: told of progress.
    """

    folder: Path
    rehearsal: bool
    say: Say

    def device(self, kind: str = "gpu") -> str:
        """``cuda`` or ``mps``, or for ``gpu`` the one that is there; a rehearsal takes the CPU.

        Raises:
            NotPossible: there is none.
        """
        there = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if self.rehearsal and kind != "mps":
            return "cpu"
        for name, present in there.items():
            if present and kind in (name, "gpu"):
                return name
        names = {"gpu": "no GPU", "cuda": "no GPU with CUDA", "mps": "no MPS"}
        raise NotPossible(f"there is {names[kind]} on this machine")

    def require(self, device: str, precision: Precision) -> None:
        """Raise NotPossible unless the device computes in this precision."""
        try:
            DeviceSettings(device=device, precision=precision).found()
        except UserError as error:
            raise NotPossible(str(error)) from None

    def clip(self, published: str = "RN50:openai") -> str:
        """The published CLIP, or the miniature in a rehearsal."""
        return "miniature" if self.rehearsal else published

    def generation(
        self, device: str, precision: Precision = "auto", preset: PresetName = "fast"
    ) -> GenerationSettings:
        """How a preset generates, or the miniature in a rehearsal.

        Raises:
            NotPossible: the device does not compute in this precision.
        """
        self.require(device, precision)
        where: dict[str, Any] = {"device": device, "precision": precision}
        if self.rehearsal:
            small = GenerationSettings(generator="miniature", steps=2, height=96, width=96, **where)
            return small.with_preset()
        return GenerationSettings(preset=preset, **where).with_preset()

    def pictures(self, count: int) -> list[Path]:
        """Made photos to embed."""
        return made_pictures(self.folder / "pictures", count)


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        passed: None for a figure that nothing bounds.
        figure: what was measured, in words.
        bound: what it was compared with, in words.
        figures: the same for machines.
    """

    passed: bool | None
    figure: str
    bound: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A claim under its name, and the function that checks it.

    The function raises NotPossible if this machine cannot check it; any other error is a failure,
    but for what a network or a disk denies.
    """

    name: str
    claim: str
    run: Callable[[Setup], Outcome]


def made_pictures(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> list[Path]:
    """JPEG files with as much detail as photos have: coarse shapes and some noise."""
    width, height = size
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = (pixels + rng.integers(-12, 13, (height, width, 1))).clip(0, 255)
        path = folder / f"{number:06}.jpg"
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)
        files.append(path)
    return files
