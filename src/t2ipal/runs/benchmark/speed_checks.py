"""Checks of speed: embedding against a bare loop of open_clip, generating against one of diffusers.

Both sides of a comparison have the same model, device, number format and batches, and take turns;
the ratio is the median over the rounds.
"""

from __future__ import annotations

import inspect
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.features import FeatureCache
from t2ipal.clip.load import find
from t2ipal.generation.diffusion.prompt_length import padded_length
from t2ipal.generation.diffusion.settings import PRECISIONS, PRESETS, GenerationSettings, PresetName
from t2ipal.generation.diffusion.source import quiet_bars
from t2ipal.generation.generate import generate
from t2ipal.generation.store import read_manifest
from t2ipal.runs.benchmark.gpu_checks import PROMPTS, loaded
from t2ipal.runs.benchmark.proof import Check, Outcome, Setup

_LEAST = 0.9
"""Of the bare loop's speed: files are hashed, checked and journaled beside it."""
_ROUNDS, _PICTURES, _BATCH = 3, 512, 32


def _compared(sides: Mapping[str, Callable[[], object]], count: int, setup: Setup) -> Outcome:
    """Whether t2ipal is about as fast as the bare loop, in words and figures.

    Args:
        sides: ``bare`` and ``t2ipal``, each of which handles ``count`` images.
    """
    rounds = 1 if setup.rehearsal else _ROUNDS
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):  # the first round warms up
        for name in sorted(sides, reverse=bool(number % 2)):  # neither side is always the first
            started = time.perf_counter()
            sides[name]()
            taken[name].append(time.perf_counter() - started)
    rates = {name: [count / wall for wall in values[1:]] for name, values in taken.items()}
    ratios = [b / a for a, b in zip(rates["bare"], rates["t2ipal"], strict=True)]
    ratio, bare, ours = map(statistics.median, (ratios, rates["bare"], rates["t2ipal"]))
    figure = f"{ours:.3g} images/s, bare {bare:.3g}, ratio {ratio:.2f}"
    if rounds > 1:
        figure += f" ({min(ratios):.2f} to {max(ratios):.2f})"
    bound = "any ratio, in a rehearsal" if setup.rehearsal else f"ratio at least {_LEAST:g}"
    figures = {"images per second": ours, "bare": bare, "ratio": ratio, "ratios": ratios}
    return Outcome(setup.rehearsal or ratio >= _LEAST, figure, bound, figures)


def _embed_speed(clip: str, setup: Setup) -> Outcome:
    device = setup.device()
    spec = setup.clip(clip)
    files = setup.pictures(24 if setup.rehearsal else _PICTURES)
    ours = Backbone.load(ClipSettings(clip=spec, device=device))
    model = find(spec).load()[0].eval().to(device)
    loop = partial(bare_embedding, model, ours.preprocess, files, device, ours.precision, _BATCH)
    sides: dict[str, Callable[[], object]] = {
        "bare": loop,
        "t2ipal": partial(cached_embedding, ours, files, _BATCH),
    }
    return _compared(sides, len(files), setup)


@torch.no_grad()
def bare_embedding(
    model: Any,
    transform: Callable[[Image.Image], Tensor],
    files: Sequence[Path],
    device: str,
    precision: str,
    batch: int,
) -> Tensor:
    """Global features [N, D] of files, as one writes it down from open_clip's README."""
    lower: Any = nullcontext()
    if precision != "fp32":
        lower = torch.autocast(torch.device(device).type, getattr(torch, PRECISIONS[precision]))
    found = []
    for start in range(0, len(files), batch):
        images = [Image.open(path).convert("RGB") for path in files[start : start + batch]]
        pixels = torch.stack([transform(image) for image in images])
        with lower:
            found.append(model.encode_image(pixels.to(device)))
    return torch.cat(found).cpu()


def cached_embedding(clip: Backbone, files: Sequence[Path], batch: int) -> None:
    """The same by this project, with local features, hashes and shards, into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        FeatureCache(folder, clip).embed_images(files, batch_size=batch, progress=False)


def _preset(name: PresetName, setup: Setup) -> Outcome:
    """Whether a preset generates as its model card says, and as fast as a bare loop."""
    given = setup.generation(setup.device(), preset=name)
    side = given.height
    assert side is not None, "presets have a size"
    count = 2 if setup.rehearsal else 8 if side <= 512 else 4
    pipe, generator = loaded(given)
    rows = [
        LabelledCaption(str(number), text, ("thing",), (), {})
        for number, text in enumerate(PROMPTS[:count])
    ]
    folder = setup.folder / "presets" / name
    generate(rows, generator, folder, batch_size=count, progress=False)  # kept, to be looked at
    images = read_manifest(folder)
    sizes = set()
    for row in images:
        with Image.open(folder / row.file) as image:
            sizes.add(image.size)
    stored = sum((folder / row.file).stat().st_size for row in images) / max(len(images), 1)
    scheduler = str(generator.generated_on.get("scheduler"))
    expected = scheduler if setup.rehearsal else PRESETS[name].scheduler
    sides = {
        "bare": partial(bare_generation, pipe, given, rows),
        "t2ipal": partial(_generate_anew, generator, rows),
    }
    speed = _compared(sides, count, setup)
    as_card = len(images) == count and sizes == {(side, side)} and scheduler == expected
    shapes = " and ".join(f"{width} x {height}" for width, height in sorted(sizes))
    return Outcome(
        speed.passed and as_card,
        f"{speed.figure}; {len(images)} of {count} images of use, {shapes or 'none'}, {scheduler}, "
        f"{generator.generated_on['dtype']}",
        f"{speed.bound}; {count} images, {side} x {side}, {expected}",
        {**speed.figures, "bytes per image": stored, **generator.generated_on},
    )


def bare_generation(pipe: Any, given: GenerationSettings, rows: Sequence[LabelledCaption]) -> None:
    """One call of a pipeline, then ``image.save``, as one writes it from diffusers' documentation.

    The pipeline is told what ``TextToImage`` tells it where that changes how much there is to do.
    """
    parameters = inspect.signature(pipe.__call__).parameters
    more: dict[str, Any] = {"use_resolution_binning": False, "complex_human_instruction": None}
    more = {key: value for key, value in more.items() if key in parameters}
    if (longest := padded_length(pipe, parameters)) is not None:
        more["max_sequence_length"] = longest
    if given.guidance is not None:
        more["guidance_scale"] = given.guidance
    with tempfile.TemporaryDirectory() as folder, quiet_bars():
        images = pipe(
            prompt=[row.caption for row in rows],
            generator=[torch.Generator("cpu").manual_seed(n) for n in range(len(rows))],
            num_inference_steps=given.steps,
            height=given.height,
            width=given.width,
            **more,
        ).images
        for row, image in zip(rows, images, strict=True):
            image.save(Path(folder) / f"{row.id}.png")


def _generate_anew(generator: Any, rows: Sequence[LabelledCaption]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generate(rows, generator, folder, batch_size=len(rows), progress=False)


SPEED_CHECKS = (
    *(
        Check(f"embed-speed-{name.partition(':')[0].lower()}",
              f"embedding with {name} is as fast as a bare loop of open_clip",
              partial(_embed_speed, name))
        for name in ("RN50:openai", "ViT-B-16:openai")
    ),
    *(
        Check(f"preset-{name}",
              f"--preset {name} generates as its model card says, as fast as a bare loop of "
              "diffusers",
              partial(_preset, name))
        for name in PRESETS
    ),
)  # fmt: skip
