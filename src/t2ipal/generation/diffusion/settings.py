"""How images are generated: the part of a run's configuration that decides what they show."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le, MultipleOf

from t2ipal.clip.clip_settings import DeviceSettings
from t2ipal.errors import Batch, Count, NotNegative, UserError, Whole, settings, settings_of

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Name here -> name of the torch number format."""

NO_GENERATOR = "none"
_ALSO_WITHOUT_IMAGES = {"generator", "batch_size", "device", "precision"}

Pixels = Annotated[int, Ge(8), MultipleOf(8), Le(8192), "PIXELS"]
PresetName = Literal["paper", "fast", "sdxl-turbo", "sdxl", "sd3", "pixart", "sana", "flux"]


@dataclass(frozen=True)
class _Preset:
    """A generator on the Hugging Face hub and how to generate with it.

    Attributes:
        side: of images, in pixels.
        precision: the number format in which its model card loads it. ``--precision auto`` takes
            bf16 on a GPU that has it: it holds the values of fp16 and larger ones.
        scheduler: what generates without fresh noise in its steps.
    """

    generator: str
    steps: int
    guidance: float
    side: int
    precision: Literal["fp16", "bf16"]
    scheduler: str


# A preset fills in what is omitted; what is given wins. None of these models was run by this
# project: its tests generate with pipelines of the same classes, files and schedulers at random
# weights.
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


@settings
class Settings(DeviceSettings):
    """How images are generated."""

    steps: Annotated[Count, Le(1000)] | None = None
    """denoising steps; the pipeline's own number if omitted"""
    guidance: NotNegative | None = None
    """scale of classifier-free guidance; the pipeline's own if omitted"""
    negative_prompt: Annotated[str, "TEXT"] | None = None
    """what images should not show"""
    height: Pixels | None = None
    """height of images, a multiple of 8; the pipeline's own size if omitted"""
    width: Pixels | None = None
    """width of images, a multiple of 8; give both or neither"""
    exact: bool = False
    """images that are bit-equal whatever the batch size; always so on a CPU, where it costs
    nothing; on a GPU images are then generated one at a time where it needs that"""
    ancestral: bool = False
    """keep a scheduler that adds noise in every step; else its noise-free sibling is taken"""

    def _check(self) -> None:
        if (self.height is None) != (self.width is None):
            raise UserError("height and width go together; give both or neither.")

    def asked(self) -> dict[str, Any]:
        """All that decides what an image shows, ready for JSON; the device does not.

        A row of an image says whether it is exact. One that is also serves where that is not asked.
        """
        asked = asdict(settings_of(Settings, self))
        del asked["device"]
        for name in ("exact", "ancestral"):
            if not asked[name]:
                del asked[name]
        return asked


@settings
class GenerationSettings(Settings):
    """Which generator, and which of its images are kept."""

    generator: str | None = None
    """diffusers text-to-image pipeline: a hub id, a folder, or miniature; none for no images, so
    that captions alone are trained on; the preset's if omitted, and miniature without a preset"""
    preset: PresetName | None = None
    """a generator with its steps, guidance and size: paper is Stable Diffusion 1.5, fast
    is SD-Turbo; options that are given win over it"""
    revision: str | None = None
    """revision of the generator on the hub"""
    images_per_caption: Annotated[Count, Le(10_000)] = 1
    """images to generate per caption"""
    batch_size: Batch = 8
    """images processed together"""
    inspect: bool = False
    """let CLIP look at each image while it is generated: labels that it does not find become
    unknown, so do classes that it finds unasked, and an image without any label left is rejected"""
    patience: Whole = 3
    """with --inspect, a label is found unless more than N absent classes look likelier (or half of
    them, if they are few)"""
    max_retries: Annotated[Whole, Le(1000)] = 3
    """further attempts at an image that is rejected: black, flat, flagged, or without its labels"""

    def _check(self) -> None:
        if self.generates:
            return
        for field in fields(GenerationSettings):
            name, value = field.name, getattr(self, field.name)
            if name not in _ALSO_WITHOUT_IMAGES and value != field.default:
                raise UserError(
                    f"with the generator none no image is generated, so {name} ({value}) would "
                    "change nothing: leave it out, or name a generator."
                )

    @property
    def generates(self) -> bool:
        """Whether images are generated at all."""
        return self.generator != NO_GENERATOR

    def with_preset(self) -> Self:
        """The same with what its preset gives filled in, and a generator in any case."""
        preset = None if self.preset is None else PRESETS[self.preset]
        if preset is None:
            return self if self.generator is not None else replace(self, generator="miniature")
        sized = self.height is not None
        return replace(
            self,
            generator=preset.generator if self.generator is None else self.generator,
            steps=preset.steps if self.steps is None else self.steps,
            guidance=preset.guidance if self.guidance is None else self.guidance,
            height=self.height if sized else preset.side,
            width=self.width if sized else preset.side,
        )
