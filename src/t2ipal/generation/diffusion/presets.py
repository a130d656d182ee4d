"""Generators by a short name, with the settings that their model cards give.

A preset fills in what is omitted; what is given wins. None of these models was run by this project:
its tests generate with pipelines of the same classes, files and schedulers at random weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["paper", "fast", "sdxl-turbo", "sdxl", "sd3", "pixart", "sana", "flux"]


@dataclass(frozen=True)
class _Preset:
    """A generator on the Hugging Face hub and how to generate with it.

    Attributes:
        side: of images, in pixels.
        precision: the number format in which its model card loads it. ``--precision auto`` takes
            bf16 on a GPU that has it: it holds the values of fp16 and larger ones.
        scheduler: what generates after ``schedulers.without_noise``.
    """

    generator: str
    steps: int
    guidance: float
    side: int
    precision: Literal["fp16", "bf16"]
    scheduler: str


PRESETS: dict[PresetName, _Preset] = {
    # T2I-PAL generates with Stable Diffusion 1.x. Its card loads fp16; steps and guidance are the
    # defaults of StableDiffusionPipeline; PNDM is its scheduler_config.json.
    "paper": _Preset(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", 50, 7.5, 512, "fp16", "PNDMScheduler"
    ),
    # Distilled (ADD, arXiv 2311.17042). Card: fp16, guidance 0, 1 step, more up to 4 are better;
    # "fixed resolution (512x512 pix)".
    "fast": _Preset("stabilityai/sd-turbo", 2, 0.0, 512, "fp16", "EulerDiscreteScheduler"),
    # Card: fp16, guidance 0, 1 to 4 steps, 512 pixels; ancestral Euler, here without its noise.
    "sdxl-turbo": _Preset(
        "stabilityai/sdxl-turbo", 2, 0.0, 512, "fp16", "EulerDiscreteScheduler"
    ),
    # Card: fp16; 1024 pixels; steps and guidance are the defaults of StableDiffusionXLPipeline.
    "sdxl": _Preset(
        "stabilityai/stable-diffusion-xl-base-1.0", 50, 5.0, 1024, "fp16", "EulerDiscreteScheduler"
    ),
    # Card: bf16, 40 steps, guidance 4.5; gated.
    "sd3": _Preset(
        "stabilityai/stable-diffusion-3.5-medium", 40, 4.5, 1024, "bf16",
        "FlowMatchEulerDiscreteScheduler",
    ),
    # Card: fp16; steps and guidance are the defaults of PixArtAlphaPipeline; DPM-Solver.
    "pixart": _Preset(
        "PixArt-alpha/PixArt-XL-2-512x512", 20, 4.5, 512, "fp16", "DPMSolverMultistepScheduler"
    ),
    # Model zoo of Sana: fp16 or fp32, text encoder and autoencoder in bf16; steps and guidance are
    # the defaults of SanaPipeline; flow matching by DPM-Solver.
    "sana": _Preset(
        "Efficient-Large-Model/Sana_600M_512px_diffusers", 20, 4.5, 512, "fp16",
        "DPMSolverMultistepScheduler",
    ),
    # Distilled. Card and docstring of FluxPipeline: bf16, 4 steps, guidance 0.
    "flux": _Preset(
        "black-forest-labs/FLUX.1-schnell", 4, 0.0, 1024, "bf16", "FlowMatchEulerDiscreteScheduler"
    ),
}  # fmt: skip
