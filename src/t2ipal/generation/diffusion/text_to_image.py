"""Any diffusers text-to-image pipeline as a function of prompts and seeds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.placement import LEVELS, Placement, networks_of
from t2ipal.generation.diffusion.prompt_length import PromptLength, padded_length
from t2ipal.generation.diffusion.settings import PRECISIONS, Settings
from t2ipal.generation.diffusion.source import Source, load_pipeline, locate, quiet_bars

log = logging.getLogger(__name__)

# Prompts of the batch check: short and long, since padding may depend on the rest of the batch.
_PROBE = (
    "a dog",
    "two people ride their bicycles past a red bus, some parked cars and a row of small shops",
    "a cat sleeps on a chair",
    "an old boat on the river, two cows and a horse",
)
_PROBE_STEPS = 2


@dataclass(frozen=True)
class GeneratedImage:
    """An image, and whether the pipeline's own safety checker flagged it."""

    image: Image.Image
    flagged: bool


class TextToImage:
    """A loaded pipeline that generates images of prompts.

    Attributes:
        spec, revision: its origin, as in the manifest (see ``source.locate``).
        settings: how it generates.
        generated_on: the device's kind, the number format, whether images are bit-equal whatever
            the batch size, and the scheduler, for the record.
    """

    def __init__(
        self, pipe: Any, source: Source, settings: Settings, placement: Placement | None = None
    ) -> None:
        """Take over ``pipe``, which is already on its device; ``source.revision`` must be known.

        ``placement`` says where its weights lie; on ``pipe.device`` if omitted.

        Raises:
            UserError: ``pipe`` is no text-to-image pipeline or lacks what a setting asks for.
        """
        self._pipe = pipe
        self.spec = source.spec
        self.revision = str(source.revision)
        self.settings = settings
        self._placement = placement or Placement(pipe, pipe.device)
        self._device = self._placement.device
        self._exact = settings.exact or self._device.type == "cpu"
        self.generated_on: dict[str, Any] = {
            "device": self._device.type,
            "dtype": str(pipe.dtype).split(".")[-1],
            "exact": self._exact,
        }
        if (own := getattr(pipe, "scheduler", None)) is not None:
            if not settings.ancestral:
                pipe.scheduler = _without_noise(own)
            self.generated_on["scheduler"] = type(pipe.scheduler).__name__
            if type(pipe.scheduler) is not type(own):
                log.info(
                    "%s: %s adds noise in every step; using %s instead (--ancestral keeps it).",
                    self.spec, type(own).__name__, self.generated_on["scheduler"],
                )  # fmt: skip
        self._parameters = inspect.signature(pipe.__call__).parameters
        self._length = PromptLength(pipe, self._parameters)
        self._warned_once = _WarnedOnce()
        self._batch_is_exact: dict[int, bool] = {}
        self._one_at_a_time = False
        self._most: int | None = None  # images at a time, once memory has run out
        pipe.set_progress_bar_config(disable=True)
        for name in ("prompt", "generator"):
            if name not in self._parameters:
                raise UserError(
                    f"{self.spec}: {type(pipe).__name__} takes no {name}; "
                    "give a text-to-image pipeline."
                )
        for name, argument in _ARGUMENTS.items():
            if getattr(settings, name) is not None and argument not in self._parameters:
                raise UserError(
                    f"{self.spec}: {type(pipe).__name__} has no {argument}; omit {name}."
                )

    @classmethod
    def load(
        cls, spec: str, *, revision: str | None = None, settings: Settings | None = None
    ) -> TextToImage:
        """Load ``spec``: ``miniature``, a folder in diffusers' format, or a hub id.

        Raises:
            UserError: diffusers, the model or the device is missing, or the model cannot be loaded.
        """
        settings = settings or Settings()
        source = locate(spec, revision)
        import torch

        device, precision = settings.found()
        dtype = getattr(torch, PRECISIONS[precision])
        pipe, source = load_pipeline(source, revision, dtype)
        return cls(pipe, source, settings, Placement.fitting(pipe, device))

    def cut_prompts(self, prompts: Iterable[str]) -> tuple[list[str], int]:
        """The prompts that are longer than the pipeline reads, and how many tokens it reads."""
        with self._warned_once.attached():
            cut = [prompt for prompt in prompts if not self._length.reads(prompt)]
        return cut, self._length.most

    def shortened(self, prompt: str) -> str:
        """The part of a prompt that an image is generated from; see ``PromptLength.shortened``."""
        with self._warned_once.attached():
            return self._length.shortened(prompt)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[GeneratedImage]:
        """Generate one image per prompt, from its own seed.

        A prompt that is longer than the pipeline reads is shortened at a word.

        An image depends on its prompt and seed alone. The initial noise comes from one CPU
        generator per image, so the kind of GPU does not matter for it. What a network then computes
        may differ in its last bits with the batch size, and a rounding to 8 bits makes that
        visible. Therefore, on a CPU always and elsewhere with ``settings.exact``:

        - on a CPU in float32 the layers run under ``exact.BatchInvariant``;
        - the first batch of each size is preceded by a check: two steps for four prompts, together
          and alone, must agree in every bit. Where they do not, as is to be expected on a GPU,
          images are generated one at a time, and a warning says so.

        Otherwise whole batches are generated, and images may differ between batch sizes by
        rounding. In both cases the bits belong to this machine and these libraries.
        A pipeline that fails on a batch (PRX of diffusers 0.42 does with guidance) generates one
        image at a time from then on; what fails there too is raised. Where memory runs out, the
        batch is halved from then on, and where a single image does not fit, weights move to main
        memory (see ``placement``), each with a warning.

        Raises:
            UserError: the pipeline refuses the settings, or memory runs out for a single image.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
        prompts = [self.shortened(prompt) for prompt in prompts]
        images: list[GeneratedImage] = []
        while len(images) < len(prompts):
            rows = slice(len(images), len(images) + (self._most or len(prompts)))
            try:
                images += self._generate_batch(prompts[rows], seeds[rows])
            except _OutOfMemory as error:
                if error.count == 1:
                    if self._placement.spare():
                        log.warning(
                            "%s: out of memory with a single image; from now on %s.",
                            self.spec, LEVELS[self._placement.level],
                        )  # fmt: skip
                        continue
                    raise UserError(
                        f"{self.spec}: out of memory with a single image; lower the image size or "
                        "the precision."
                    ) from error
                self._most = error.count // 2
                log.warning(
                    "%s: out of memory with %d images at a time; from now on %d.",
                    self.spec, error.count, self._most,
                )  # fmt: skip
        return images

    def _generate_batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[GeneratedImage]:
        count = len(prompts)
        if count > 1 and not self._one_at_a_time:
            try:
                if not self._exact or self._same_in_batch(count):
                    return self._generate_together(prompts, seeds)
            except RuntimeError as error:
                self._one_at_a_time = True
                log.warning(
                    "%s: %s fails on %d prompts together (%s), so images are "
                    "generated one at a time.",
                    self.spec, type(self._pipe).__name__, count, error,
                )  # fmt: skip
        alone = (
            self._generate_together([prompt], [seed])
            for prompt, seed in zip(prompts, seeds, strict=True)
        )
        return [image for one in alone for image in one]

    def _generate_together(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[GeneratedImage]:
        output = self._call(prompts, seeds, output_type="pil")
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(prompts)
        return [
            GeneratedImage(image, bool(flag))
            for image, flag in zip(output.images, flags, strict=True)
        ]

    def _same_in_batch(self, count: int) -> bool:
        """Whether ``count`` images generated together have the bits of images generated alone."""
        if count not in self._batch_is_exact:
            which = [number % len(_PROBE) for number in range(count)]
            together = self._probe(which)
            alone = [self._probe([number])[0] for number in range(min(count, len(_PROBE)))]
            same = all(
                np.array_equal(image, alone[number], equal_nan=True)
                for image, number in zip(together, which, strict=True)
            )
            if not same:
                log.warning(
                    "On this device a batch of %d gives other last bits than single images, so "
                    "images are generated one at a time.",
                    count,
                )
            self._batch_is_exact[count] = same
        return self._batch_is_exact[count]

    def _probe(self, which: Sequence[int]) -> list[np.ndarray]:
        """Float images [H, W, 3] of the probe's prompts ``which``, after very few steps."""
        prompts = [_PROBE[number] for number in which]
        fewer = {}
        if "num_inference_steps" in self._parameters:
            fewer["num_inference_steps"] = min(self.settings.steps or _PROBE_STEPS, _PROBE_STEPS)
        return list(self._call(prompts, which, output_type="np", **fewer).images)

    def _call(self, prompts: Sequence[str], seeds: Sequence[int], **options: Any) -> Any:
        import torch

        from t2ipal.generation.diffusion.exact import BatchInvariant

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        arguments = {**self._arguments(len(prompts)), **options}
        on_cuda = [self._device] if self._device.type == "cuda" else []
        with ExitStack() as stack:
            stack.enter_context(quiet_bars())
            stack.enter_context(self._warned_once.attached())
            if self._exact and self.generated_on["device"] == "cpu":
                stack.enter_context(BatchInvariant(networks_of(self._pipe).values()))
            # a scheduler that draws from the global generator is then still a function of the seed
            stack.enter_context(torch.random.fork_rng(devices=on_cuda))
            torch.manual_seed(seeds[0])
            try:
                output = self._pipe(prompt=list(prompts), generator=generators, **arguments)
            except torch.OutOfMemoryError as error:
                raise _OutOfMemory(len(prompts)) from error
            except ValueError as error:
                raise UserError(f"{self.spec}: the pipeline refuses this: {error}") from error
        if len(getattr(output, "images", ())) != len(prompts):
            raise UserError(
                f"{self.spec}: {type(self._pipe).__name__} does not give one image per prompt; "
                "give a text-to-image pipeline."
            )
        return output

    def _arguments(self, count: int) -> dict[str, Any]:
        """The settings under the pipeline's own names; omitted ones are left to the pipeline."""
        given = {argument: getattr(self.settings, name) for name, argument in _ARGUMENTS.items()}
        given = {argument: value for argument, value in given.items() if value is not None}
        if "negative_prompt" in given:
            given["negative_prompt"] = [given["negative_prompt"]] * count
        if "height" not in given and (side := self._native_side()):
            given["height"] = given["width"] = side
        if "use_resolution_binning" in self._parameters:
            # sizes are meant exactly; the native size is in every table of resolutions anyway
            given["use_resolution_binning"] = False
        # A caption is used as it stands: no instruction in front of it, no words taken out.
        for name, value in (("complex_human_instruction", None), ("clean_caption", False)):
            if name in self._parameters:
                given[name] = value
        if (limit := padded_length(self._pipe, self._parameters)) is not None:
            given["max_sequence_length"] = limit
        return given

    def _native_side(self) -> int | None:
        """The checkpoint's own size, where the pipeline's default is a number fixed in its code.

        Sana's default is 1024 for its checkpoints of 512 pixels too.
        """
        if not isinstance(getattr(self._parameters.get("height"), "default", None), int):
            return None
        network = getattr(self._pipe, "transformer", None) or getattr(self._pipe, "unet", None)
        side = getattr(getattr(network, "config", None), "sample_size", None)
        scale = getattr(self._pipe, "vae_scale_factor", None)
        return side * scale if isinstance(side, int) and isinstance(scale, int) else None


# Cut prompts are reported once, with their number, before images are generated; the libraries'
# own lines come from counting their tokens.
_REPORTED_BY_US = (
    "Token indices sequence length is longer",
    "The following part of your input was truncated",
)


class _WarnedOnce(logging.Filter):
    """Lets each warning of the libraries through once, and those about cut prompts never."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[tuple[str, int], logging.LogRecord] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(_REPORTED_BY_US):
            return False
        # several handlers filter the same record, and all may emit it
        return self._first.setdefault((record.pathname, record.lineno), record) is record

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Filter the handlers of diffusers and transformers meanwhile."""
        handlers = [
            handler
            for library in ("diffusers", "transformers")
            for handler in logging.getLogger(library).handlers
        ]
        for handler in handlers:
            handler.addFilter(self)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(self)


class _OutOfMemory(Exception):
    """Memory ran out with ``count`` images at a time."""

    def __init__(self, count: int) -> None:
        super().__init__(f"out of memory with {count} images")
        self.count = count


_ARGUMENTS = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "negative_prompt": "negative_prompt",
    "height": "height",
    "width": "width",
}

# Schedulers that add fresh noise in every step, and their siblings that do not.
_SIBLINGS = {
    "EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler": "KDPM2DiscreteScheduler",
    "DPMSolverSDEScheduler": "DPMSolverMultistepScheduler",
    "DDPMScheduler": "DDIMScheduler",
}
_SDE = "sde-"  # prefix of the algorithms of DPM-Solver that add noise


def _without_noise(scheduler: Any) -> Any:
    """The deterministic sibling of a diffusers scheduler; itself if it adds no noise.

    With a sibling, which reads the same configuration, an image is a function of its initial noise
    alone, and few steps give less grain.

    A scheduler of a distilled model that must add noise (LCM, TCD) has no sibling and stays.
    """
    import diffusers

    name = type(scheduler).__name__
    if name in _SIBLINGS:
        return getattr(diffusers, _SIBLINGS[name]).from_config(scheduler.config)
    algorithm = getattr(getattr(scheduler, "config", None), "algorithm_type", None)
    if isinstance(algorithm, str) and algorithm.startswith(_SDE):
        plain = algorithm.removeprefix(_SDE)
        return type(scheduler).from_config(scheduler.config, algorithm_type=plain)
    return scheduler
