"""Generators by a short name, with the settings that their model cards give.

A preset fills in what is omitted; what is given wins. None of these models was run by this
project's own tests, which generate with pipelines of the same classes at random weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["paper", "fast", "sdxl-turbo", "sdxl", "sd3", "pixart", "sana", "flux"]


@dataclass(frozen=True)
class _Preset:
    """A generator on the Hugging Face hub and how to generate with it; ``side`` in pixels."""

    generator: str
    steps: int
    guidance: float
    side: int


PRESETS: dict[PresetName, _Preset] = {
    # T2I-PAL generates with Stable Diffusion 1.x; 50 steps and 7.5 are its pipeline's defaults.
    "paper": _Preset("stable-diffusion-v1-5/stable-diffusion-v1-5", 50, 7.5, 512),
    # Distilled (ADD, arXiv 2311.17042): 1 to 4 steps, no guidance.
    "fast": _Preset("stabilityai/sd-turbo", 2, 0.0, 512),
    "sdxl-turbo": _Preset("stabilityai/sdxl-turbo", 2, 0.0, 512),
    "sdxl": _Preset("stabilityai/stable-diffusion-xl-base-1.0", 50, 5.0, 1024),
    "sd3": _Preset("stabilityai/stable-diffusion-3.5-medium", 40, 4.5, 1024),
    "pixart": _Preset("PixArt-alpha/PixArt-XL-2-512x512", 20, 4.5, 512),
    "sana": _Preset("Efficient-Large-Model/Sana_600M_512px_diffusers", 20, 4.5, 512),
    "flux": _Preset("black-forest-labs/FLUX.1-schnell", 4, 0.0, 1024),
}
