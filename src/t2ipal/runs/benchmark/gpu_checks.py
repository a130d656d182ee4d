"""Checks of what a GPU computes: against the CPU, in half precision, and with too little memory.

Bounds were chosen before anything was measured. Features are compared by one minus the cosine,
images by the mean difference of their 8-bit levels: rounding moves pixels a little, and an error
makes another image.
"""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from logging.handlers import BufferingHandler
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings, Precision
from t2ipal.clip.load import find
from t2ipal.errors import settings_of
from t2ipal.generation.diffusion import text_to_image
from t2ipal.generation.diffusion.placement import WORKING_BYTES, Placement, networks_of
from t2ipal.generation.diffusion.settings import PRECISIONS, GenerationSettings, Settings
from t2ipal.generation.diffusion.source import Source, load_pipeline, locate
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.screening import reject_reason
from t2ipal.runs.benchmark.proof import Check, NotPossible, Outcome, Setup

Pixels = list[np.ndarray]

PROMPTS = (
    "a dog runs on the beach",
    "a red bus and two bicycles in front of a house",
    "a cat sleeps on a chair",
    "an old boat on the river",
    "two cows and a horse on a meadow",
    "a bottle and a laptop on a table",
    "a bird sits on a parked car",
    "a train passes a station with many people",
)
_PICTURES = 16
_LARGEST = {"fp32": (1e-4, 1e-3, 1e-4), "fp16": (1e-3, 1e-2, 1e-4), "bf16": (1e-2, 5e-2, 1e-4)}
"""One minus the cosine of images, local features and texts, with the reference in fp32."""
_LEVELS = {"fp32": 4, "fp16": 8, "bf16": 16}
"""Mean difference of the pixels of a generated image, of 255."""
_FORMULAS = 1e-4
_REFUSED = 2  # images at a time that fit into a rehearsal's memory


def loaded(given: GenerationSettings) -> tuple[Any, TextToImage]:
    """A pipeline of diffusers on its device, and the generator made of it."""
    pipe, source = _pipeline(given)
    placement = Placement.fitting(pipe, given.found()[0])
    return pipe, TextToImage(pipe, source, settings_of(Settings, given), placement)


def _pipeline(given: GenerationSettings) -> tuple[Any, Source]:
    if find_spec("diffusers") is None or find_spec("accelerate") is None:
        raise NotPossible("diffusers is not installed; run: pip install diffusers accelerate")
    assert given.generator is not None, "with_preset names one"
    dtype = getattr(torch, PRECISIONS[given.found()[1]])
    return load_pipeline(locate(given.generator), None, dtype)


def _embedded(setup: Setup, device: str, precision: Precision) -> tuple[Tensor, Tensor, Tensor]:
    """Unit features of pictures [N, D], their positions [N, P, D] and texts [T, D]."""
    setup.require(device, precision)
    clip = Backbone.load(ClipSettings(clip=setup.clip(), device=device, precision=precision))
    features = clip.encode_image(_pixels(clip, setup))
    text = clip.encode_text(PROMPTS).global_
    global_, local, text = (
        F.normalize(one.float(), dim=-1).cpu() for one in (features.global_, features.local, text)
    )
    return global_, local, text


def _pixels(clip: Backbone, setup: Setup) -> Tensor:
    return torch.stack([clip.preprocess(Image.open(one)) for one in setup.pictures(_PICTURES)])


def _same_features(
    first: Sequence[Tensor], second: Sequence[Tensor], bounds: tuple[float, float, float]
) -> Outcome:
    names = ("image", "local", "text")
    apart = {
        name: float((1 - (a.double() * b.double()).sum(dim=-1)).max())
        for name, a, b in zip(names, first, second, strict=True)
    }
    return Outcome(
        all(value <= bound for value, bound in zip(apart.values(), bounds, strict=True)),
        "one minus the cosine at most " + ", ".join(f"{n} {v:.1e}" for n, v in apart.items()),
        "at most " + ", ".join(f"{n} {b:.0e}" for n, b in zip(names, bounds, strict=True)),
        apart,
    )


def _embed(kind: str, precision: Precision, setup: Setup) -> Outcome:
    """In fp32 beside the CPU's features, in less beside those in fp32."""
    device = setup.device(kind)
    setup.require(device, precision)
    reference = _embedded(setup, "cpu" if precision == "fp32" else device, "fp32")
    return _same_features(reference, _embedded(setup, device, precision), _LARGEST[precision])


def _tai_dpt_features(setup: Setup) -> Outcome:
    """TaI-DPT's features by the calls of its code, on CLIP's own layers: no formula of ours."""
    spec = setup.clip()
    visual = find(spec).load()[0].eval().visual
    settings = ClipSettings(clip=spec, device="cpu", precision="fp32")
    ours = Backbone.load(settings, pool_positions=False)
    pixels = _pixels(ours, setup)
    pool = visual.attnpool
    with torch.no_grad():
        whole = F.normalize(visual(pixels), dim=-1)
        x = visual.stem(pixels)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        x = x.flatten(2).permute(2, 0, 1)  # [P, B, W]
        value = F.linear(x, pool.v_proj.weight, pool.v_proj.bias)
        local = F.linear(value, pool.c_proj.weight, pool.c_proj.bias).permute(1, 0, 2)
        x = torch.cat([x.mean(dim=0, keepdim=True), x])  # if_pos=False: no positions are added
        projections = (pool.q_proj, pool.k_proj, pool.v_proj)
        pooled, _ = F.multi_head_attention_forward(
            query=x, key=x, value=x, embed_dim_to_check=x.shape[-1], num_heads=pool.num_heads,
            q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight,
            v_proj_weight=pool.v_proj.weight, in_proj_weight=None,
            in_proj_bias=torch.cat([one.bias for one in projections]), bias_k=None, bias_v=None,
            add_zero_attn=False, dropout_p=0.0, out_proj_weight=pool.c_proj.weight,
            out_proj_bias=pool.c_proj.bias, use_separate_proj_weight=True, training=False,
            need_weights=False,
        )  # fmt: skip
    found = ours.encode_image(pixels)
    own = Backbone.load(settings).encode_image(pixels)
    pairs = {
        "global": (found.global_, pooled[0]),
        "local": (found.local, local),
        "CLIP's own global": (own.global_, whole),
    }
    apart = {
        name: float((F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).abs().max())
        for name, (a, b) in pairs.items()
    }
    return Outcome(
        all(value <= _FORMULAS for value in apart.values()),
        "largest difference of unit features: "
        + ", ".join(f"{name} {value:.1e}" for name, value in apart.items()),
        f"at most {_FORMULAS:.0e}",
        apart,
    )


def _generated(generator: TextToImage, count: int) -> tuple[Pixels, list[str]]:
    """Images [H, W, 3] of the first prompts, and why some of them are of no use."""
    images = generator.generate(PROMPTS[:count], list(range(count)))
    reasons = [reject_reason(one.image, one.flagged) for one in images]
    pixels = [np.asarray(one.image.convert("RGB")).astype(np.int16) for one in images]
    return pixels, [reason for reason in reasons if reason is not None]


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """Mean difference of pixels, in levels of 255."""
    return float(np.abs(first - second).mean())


def _same_images(
    first: Pixels, second: Pixels, rejected: Sequence[str], levels: float, also: str = ""
) -> Outcome:
    """Whether the second images are the first ones but for rounding, and all of use."""
    worst = max(_apart(a, b) for a, b in zip(first, second, strict=True))
    nearest = sum(
        min(range(len(first)), key=lambda j: _apart(first[j], one)) == i
        for i, one in enumerate(second)
    )
    count = len(first)
    return Outcome(
        not rejected and nearest == count and worst <= levels,
        f"{also}mean difference up to {worst:.3g} of 255 levels; {nearest} of {count} images are "
        f"nearest to their own; {len(rejected)} rejected" + f" ({rejected})" * bool(rejected),
        f"at most {levels:g} levels, {count} nearest, 0 rejected",
        {"levels": worst, "nearest": nearest, "images": count, "rejected": len(rejected)},
    )


def _generate(kind: str, precision: Precision, setup: Setup) -> Outcome:
    """In fp32 beside the CPU's images, in less beside those in fp32."""
    device = setup.device(kind)
    given = setup.generation(device, precision)
    other, count = ("cpu", 2) if precision == "fp32" else (device, 4)
    first, _ = _generated(loaded(setup.generation(other, "fp32"))[1], count)
    second, rejected = _generated(loaded(given)[1], count)
    return _same_images(first, second, rejected, _LEVELS[precision])


def _halving(setup: Setup) -> Outcome:
    device, count = torch.device(setup.device("cuda")), len(PROMPTS)
    given = setup.generation(device.type)
    pipe, generator = loaded(given)
    peaks = []
    for images in (1, count):
        with _peak(device) as peak:
            first, _ = _generated(generator, images)
        peaks.append(peak[0])
    with _warnings() as said, _short_of_memory(pipe, device, *peaks):
        second, rejected = _generated(generator, count)
    lines = " ".join(record.getMessage() for record in said)
    steps = re.findall(r"with (\d+) images at a time; from now on (\d+)", lines)
    sizes = [*(before for before, _ in steps), *(after for _, after in steps[-1:])]
    also = f"{', then '.join(sizes)} images at a time; " if sizes else "never halved; "
    outcome = _same_images(first, second, rejected, _LEVELS["fp32"], also)
    return replace(
        outcome,
        passed=bool(steps) and outcome.passed,
        bound=f"halved at least once; {outcome.bound}",
        figures={**outcome.figures, "sizes": [int(size) for size in sizes], "peak bytes": peaks},
    )


def _offload(level: str, setup: Setup) -> Outcome:
    device = torch.device(setup.device("cuda"))
    given = setup.generation(device.type)
    whole, _ = _generated(loaded(given)[1], 2)
    pipe, source = _pipeline(given)
    with _peak(device) as peak, _crowded(pipe, device, level) as ballast:
        placement = Placement.fitting(pipe, device)
        if device.type == "cpu":
            placement.put(level)
        generator = TextToImage(pipe, source, settings_of(Settings, given), placement)
        moved, rejected = _generated(generator, 2)
    weights = sum(_bytes_of(network) for network in networks_of(pipe).values())
    outcome = _same_images(whole, moved, rejected, 0, f"moved by {placement.level}; ")
    figures = {**outcome.figures, "level": placement.level, "weight bytes": weights}
    if device.type == "cuda":
        figures["peak bytes"] = peak[0] - ballast
    return replace(
        outcome,
        passed=placement.level == level and outcome.passed,
        bound=f"moved by {level}; {outcome.bound}",
        figures=figures,
    )


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """The most memory that PyTorch took of a GPU meanwhile, in bytes, once it is over."""
    found: list[int] = []
    if device.type == "cuda":
        gc.collect()  # pipelines that are not needed any more lie in circles
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    found.append(torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0)


@contextmanager
def _short_of_memory(pipe: Any, device: torch.device, single: int, batch: int) -> Iterator[None]:
    """Leave a GPU the memory for a few images; on a CPU, refuse more of them."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((single + 0.3 * (batch - single)) / total)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return

    def refuse(network: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        if len(kwargs["input_ids"] if "input_ids" in kwargs else args[0]) > _REFUSED:
            raise torch.OutOfMemoryError("out of memory")

    encoder = networks_of(pipe)["text_encoder"]
    hook = encoder.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _crowded(pipe: Any, device: torch.device, level: str) -> Iterator[int]:
    """Occupy a GPU until a pipeline's weights fit at this level and at no faster one; the bytes."""
    if device.type == "cpu":
        yield 0
        return
    sizes = [_bytes_of(network) for network in networks_of(pipe).values()]
    room = (max(sizes) + sum(sizes)) // 2 if level == "parts" else max(sizes) // 2
    spare = max(torch.cuda.mem_get_info(device)[0] - WORKING_BYTES - room, 0)
    ballast = torch.empty(spare, dtype=torch.uint8, device=device)
    yield spare
    del ballast


def _bytes_of(network: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in (*network.parameters(), *network.buffers()))


@contextmanager
def _warnings() -> Iterator[list[logging.LogRecord]]:
    """What the generator warns of meanwhile."""
    listener = BufferingHandler(1000)
    listener.setLevel(logging.WARNING)
    text_to_image.log.addHandler(listener)
    try:
        yield listener.buffer
    finally:
        text_to_image.log.removeHandler(listener)


GPU_CHECKS = (
    Check(
        "tai-dpt-features",
        "published weights load; features are open_clip's, and those of TaI-DPT's calls of PyTorch",
        _tai_dpt_features,
    ),
    *(
        Check(f"{kind}-{verb}", f"{what} on {kind} are those of the CPU, in fp32",
              partial(check, kind, "fp32"))
        for verb, what, check in (
            ("embed", "CLIP's features", _embed), ("generate", "images generated", _generate)
        )
        for kind in ("cuda", "mps")
    ),
    *(
        Check(f"{precision}-{verb}", f"{what} in {precision} are those in fp32, on a GPU",
              partial(check, "gpu", precision))
        for verb, what, check in (
            ("embed", "CLIP's features", _embed), ("generate", "images", _generate)
        )
        for precision in ("bf16", "fp16")
    ),
    Check("memory-halving", "a batch that does not fit into a GPU's memory is halved", _halving),
    *(
        Check(f"offload-{level}",
              f"weights that do not fit into a GPU are moved by {level} and change no image",
              partial(_offload, level))
        for level in ("parts", "layers")
    ),
)  # fmt: skip
