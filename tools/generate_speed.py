"""Images per second of ``t2ipal generate``, against a bare diffusers loop; and the time in which
a finished run finds that it is finished.

    python tools/generate_speed.py [--steps 25] [--batch 8] [--rounds 30] [--miniature]
    python tools/generate_speed.py --resume 10000

Both sides generate images of the same captions and write PNG files. The pipeline is the packaged
miniature's with a transformer of 13 million random weights, so that an image takes about a second
on two cores; with ``--miniature`` it is the packaged one, whose layers are so small that the time
of Python shows.

* bare: one call of the pipeline per batch, then ``image.save``, image by image.
* t2ipal: ``generate`` into an empty folder: images are checked, encoded by threads, hashed and
  written down in a journal and a manifest.

A round is one batch of each side, one right after the other in changing order, since shared
machines change their pace within minutes. Printed are medians over the rounds with their middle
half, and a 95 % bootstrap interval of the ratio's median. Before them each side draws one batch:
t2ipal then compares batches bit by bit with single images, once a process.

With ``--resume N`` a store of N small images is made, as if the miniature had made it, and the
same ``t2ipal generate`` is started again as a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, SanaTransformer2DModel
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.files import write_jsonl
from t2ipal.generation.diffusion.settings import GenerationSettings, Settings
from t2ipal.generation.diffusion.source import locate, quiet_bars
from t2ipal.generation.diffusion.text_to_image import GeneratedImage, TextToImage
from t2ipal.generation.generate import generate
from t2ipal.runs.benchmark.speed_checks import bare_generation

HEADS, LAYERS = 8, 12  # of the larger transformer: 13 million weights
NAMES = ("dog", "cat", "bus", "boat", "horse", "bird", "car", "chair")


def captions(count: int) -> list[LabelledCaption]:
    """Captions of two classes each, all different."""
    rows = []
    for number in range(count):
        first, second = NAMES[number % 8], NAMES[(number + 1 + number // 8 % 7) % 8]
        text = f"a {first} and a {second} in picture {number}"
        rows.append(LabelledCaption(str(number), text, (first, second), (), {}))
    return rows


def ours(painter: TextToImage, rows: list[LabelledCaption], batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generate(rows, painter, folder, batch_size=batch, progress=False)


def enlarged(folder: Path) -> Path:
    """The miniature with a larger transformer of random weights, saved in diffusers' format."""
    pipe = DiffusionPipeline.from_pretrained(str(locate("miniature").folder))
    config = dict(pipe.transformer.config)
    heads = {"num_attention_heads": HEADS, "num_cross_attention_heads": HEADS}
    width = HEADS * config["attention_head_dim"]
    config |= {**heads, "cross_attention_dim": width, "num_layers": LAYERS}
    torch.manual_seed(0)
    pipe.transformer = SanaTransformer2DModel.from_config(config)
    pipe.save_pretrained(folder)
    return folder


def compare(folder: Path, steps: int, batch: int, rounds: int) -> None:
    """Print both sides' rates and their ratio."""
    pipe = DiffusionPipeline.from_pretrained(str(folder))
    pipe.set_progress_bar_config(disable=True)
    rows = captions(batch)
    side = pipe.transformer.config.sample_size * pipe.vae_scale_factor
    asked = GenerationSettings(steps=steps, height=side, width=side, device="cpu")
    painter = TextToImage.load(str(folder), settings=Settings(steps=steps, device="cpu"))
    sides = {
        "bare": lambda: bare_generation(pipe, asked, rows),
        "t2ipal": lambda: ours(painter, rows, batch),
    }
    for side in sides.values():
        side()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):  # neither side is always the first
            taken[name].append(timed(sides[name]))
    for name, values in taken.items():
        print(f"{name:7} {spread([batch / wall for wall in values], '.2f')} images/s")
    ratios = np.divide(taken["bare"], taken["t2ipal"])
    low, high = np.percentile(
        np.median(np.random.default_rng(0).choice(ratios, (10_000, rounds)), axis=1), (2.5, 97.5)
    )
    print(f"ratio   {spread(list(ratios), '.3f')}, the median within {low:.3f} to {high:.3f}")


def timed(work: Callable[[], object]) -> float:
    """Seconds on the wall clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Stamp:
    """Stands in for the miniature, so that many images are made in no time."""

    def __init__(self) -> None:
        source = locate("miniature")
        self.spec, self.revision = source.spec, str(source.revision)
        self.settings = Settings()
        self.generated_on = {"device": "cpu", "dtype": "float32"}

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[GeneratedImage]:
        sources = [np.random.default_rng(seed) for seed in seeds]
        noise = [source.integers(0, 256, (8, 8, 3), np.uint8) for source in sources]
        return [GeneratedImage(Image.fromarray(pixels), False) for pixels in noise]


def resume(count: int) -> None:
    """Print how long repeating a finished run takes, the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        out, file = Path(folder) / "generated", Path(folder) / "captions.jsonl"
        rows = captions(count)
        write_jsonl(file, rows)
        generate(rows, Stamp(), out, batch_size=64, progress=False)
        command = [sys.executable, "-m", "t2ipal.cli", "generate"]
        command += ["--labelled-captions", str(file)]
        command += ["--generator", "miniature", "--out", str(out)]
        repeat = partial(subprocess.run, command, check=True, capture_output=True, text=True)
        seconds = [timed(repeat) for _ in range(5)]
        print(repeat().stdout.splitlines()[0].replace(folder, "..."))
        print(f"repeating a finished run of {count} images: {spread(seconds, '.2f')} s")


def spread(values: list[float], form: str) -> str:
    """Median and middle half."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(";")[0])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--resume", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.resume:
        resume(arguments.resume)
        return
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.rounds} rounds "
        f"of {arguments.batch} images, {arguments.steps} steps"
    )
    with tempfile.TemporaryDirectory() as folder, quiet_bars():
        packaged = locate("miniature").folder if arguments.miniature else None
        compare(
            packaged or enlarged(Path(folder)), arguments.steps, arguments.batch, arguments.rounds
        )


if __name__ == "__main__":
    main()
