"""How images are drawn: the part of a run's configuration that decides what they show."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from t2ipal.errors import UserError, nearest

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Name here -> name of the torch number format."""

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Settings:
    """How to draw; None leaves the choice to the pipeline."""

    steps: int | None = None
    """Denoising steps."""
    guidance: float | None = None
    """Classifier-free guidance scale."""
    negative_prompt: str | None = None
    """What the image should not show."""
    height: int | None = None
    """Pixels, a multiple of 8, given together with the width."""
    width: int | None = None
    """Pixels, a multiple of 8, given together with the height."""
    precision: str = "auto"
    """fp32, fp16, bf16; auto is bf16 (or else fp16) on CUDA and fp32 elsewhere."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes the first of cuda, mps, cpu that is there."""
    exact: bool = True
    """Draw the same bits whatever the batch size; see ``TextToImage.draw``."""
    ancestral: bool = False
    """Keep a scheduler that adds fresh noise in every step; else its sibling without."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError(f"steps must be at least 1, not {self.steps}.")
        if self.guidance is not None and not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise UserError(f"guidance must be a number from 0 up, not {self.guidance}.")
        if (self.height is None) != (self.width is None):
            raise UserError("height and width go together; give both or neither.")
        for name in ("height", "width"):
            size = getattr(self, name)
            if size is not None and (size < 8 or size % 8):
                raise UserError(f"{name} must be a positive multiple of 8 pixels, not {size}.")
        if self.precision not in ("auto", *PRECISIONS):
            raise UserError(
                f"unknown precision {self.precision!r}{nearest(self.precision, PRECISIONS)}; "
                f"choose auto, {', '.join(PRECISIONS)}."
            )
        if self.device.split(":")[0] not in DEVICES:
            raise UserError(
                f"unknown device {self.device!r}{nearest(self.device, DEVICES)}; "
                "choose auto, cpu, cuda, cuda:1 (and so on) or mps."
            )

    def asked(self) -> dict[str, Any]:
        """All that decides what an image shows, ready for JSON; the device does not."""
        asked = asdict(self)
        del asked["device"]
        if not self.ancestral:  # manifests of before there was the choice lack it
            del asked["ancestral"]
        return asked


def settings_of(owner: object) -> dict[str, Any]:
    """The values of an object that has an attribute for each field of :class:`Settings`."""
    return {field.name: getattr(owner, field.name) for field in fields(Settings)}
