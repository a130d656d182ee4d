"""Which CLIP, how it sees an image, and where it computes; imports nothing heavy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Le
from pydantic import AfterValidator

from t2ipal.clip.crops import MOST_CROPS
from t2ipal.errors import Count, UserError, Whole, nearest, settings

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")
Precision = Literal["auto", "fp32", "bf16", "fp16"]
ResizeMode = Literal["shortest", "squash", "longest"]


def _device(name: str) -> str:
    if name == "cuda:N" or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UserError(
            f"must be one of {', '.join(DEVICES)}, not {name!r}{nearest(name, DEVICES)}."
        )
    return name


def _crops(value: int) -> int:
    if value == 1:  # the image itself
        raise UserError("must be 0 (none) or at least 2 per side, not 1.")
    return value


Crops = Annotated[Whole, Le(MOST_CROPS), AfterValidator(_crops)]


@settings
class DeviceSettings:
    """Where models compute, and in which number format."""

    device: Annotated[str, AfterValidator(_device), "DEVICE"] = "auto"
    """where models compute; auto takes the first of cuda, mps and cpu that is there"""
    precision: Precision = "auto"
    """number format of models; auto is bf16 (or else fp16) on CUDA and fp32 elsewhere"""

    def found(self) -> tuple[torch.device, str]:
        """The device, and the precision without ``auto``.

        Raises:
            UserError: there is no such device here, or it does not compute in this precision.
        """
        import torch

        there = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
        name = self.device
        if name == "auto":
            name = next(kind for kind, present in there.items() if present)
        device = torch.device(name)
        if not there[device.type] or (device.index or 0) >= max(torch.cuda.device_count(), 1):
            raise UserError(f"device {name!r} is not there; use auto, or cpu.")
        precision: str = self.precision
        if precision == "auto":
            half = "bf16" if device.type != "cuda" or torch.cuda.is_bf16_supported() else "fp16"
            precision = half if device.type == "cuda" else "fp32"
        if precision == "fp16" and device.type == "cpu":
            raise UserError("precision fp16 needs a GPU; on a CPU use fp32 (auto) or bf16.")
        return device, precision


@settings
class _ViewSettings:
    """At which size CLIP sees an image."""

    image_size: Annotated[Count, Le(4096), "PIXELS"] | None = None
    """input size of CLIP; if omitted its own, or the one a saved model was tuned with"""
    resize_mode: ResizeMode | None = None
    """how an image becomes a square: shortest (resize, cut the center out), squash (nothing is
    cut) or longest (add borders); if omitted CLIP's own, or the saved model's"""


@settings
class ModelSettings(_ViewSettings):
    """How a saved model looks at images."""

    crops: Crops | None = None
    """also score images by N x N overlapping crops; the model's own number if omitted"""


@settings
class ClipSettings(_ViewSettings, DeviceSettings):
    """Which CLIP, and how it sees an image."""

    clip: str = "miniature"
    """the frozen CLIP: NAME:TAG (open_clip), hf-hub:ORG/NAME, transformers:ORG/NAME, a folder, or
    photo"""
    local_grid: Annotated[Count, Le(256)] | None = None
    """average the local features to N x N cells where they are finer; keep them all if omitted"""
