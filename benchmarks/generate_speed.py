"""Images a second through ``t2ipal generate``, against a bare diffusers loop; and how long a
finished run takes to see that it is finished.

    python benchmarks/generate_speed.py [--images 32] [--steps 150] [--batch 8] [--rounds 3]
    python benchmarks/generate_speed.py --resume 10000

Both sides draw the same captions with the packaged miniature pipeline, with so many steps that an
image takes about a second on two cores, and write PNG files:

* bare: one call of the pipeline a batch, then ``image.save``, image by image.
* t2ipal: ``generate`` into an empty folder: batches are compared bit by bit with single images
  first, images are checked, encoded by threads, hashed and written down in a journal and a
  manifest.

The sides take turns in one process; printed are the median of the rounds and its range, and the
ratio by processor time too, which other work on the machine disturbs less. The comparison of the
first batch, which a process does once, is within t2ipal's time.

With ``--resume N`` a store of N small images is made, as if the miniature had drawn it, and the
same ``t2ipal generate`` is started again as a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption, write_labelled
from t2ipal.synthesis.generator import generate
from t2ipal.synthesis.settings import Settings
from t2ipal.synthesis.source import locate
from t2ipal.synthesis.text_to_image import Drawn, TextToImage

NAMES = ("dog", "cat", "bus", "boat", "horse", "bird", "car", "chair")


def captions(count: int) -> list[LabelledCaption]:
    """Captions of two classes each, all different."""
    rows = []
    for number in range(count):
        first, second = NAMES[number % 8], NAMES[(number + 1 + number // 8 % 7) % 8]
        text = f"a {first} and a {second} in picture {number}"
        rows.append(LabelledCaption(str(number), text, (first, second), (), {}))
    return rows


def bare(pipe: DiffusionPipeline, rows: list[LabelledCaption], steps: int, batch: int) -> None:
    """What one writes down from diffusers' documentation."""
    side = pipe.transformer.config.sample_size * pipe.vae_scale_factor
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            images = pipe(
                prompt=[row.caption for row in some],
                generator=[torch.Generator().manual_seed(start + n) for n in range(len(some))],
                num_inference_steps=steps,
                height=side,
                width=side,
                use_resolution_binning=False,
                complex_human_instruction=None,
                max_sequence_length=pipe.tokenizer.model_max_length,
            ).images
            for row, image in zip(some, images, strict=True):
                image.save(Path(folder) / f"{row.id}.png")


def ours(painter: TextToImage, rows: list[LabelledCaption], batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generate(rows, painter, folder, batch_size=batch, progress=False)


def compare(count: int, steps: int, batch: int, rounds: int) -> None:
    """Print both sides' rates and their ratio."""
    source, rows = locate("miniature"), captions(count)
    pipe = DiffusionPipeline.from_pretrained(str(source.folder))
    pipe.set_progress_bar_config(disable=True)
    settings = Settings(steps=steps, device="cpu")
    bare(pipe, rows[:batch], 2, batch)
    taken: dict[str, list[tuple[float, float]]] = {"bare": [], "t2ipal": []}
    for _ in range(rounds):
        painter = TextToImage.load("miniature", settings=settings)
        taken["bare"].append(timed(lambda: bare(pipe, rows, steps, batch)))
        taken["t2ipal"].append(timed(lambda painter=painter: ours(painter, rows, batch)))
    for name, values in taken.items():
        print(f"{name:7} {spread([count / wall for wall, _ in values], '.2f')} images/s")
    pairs = list(zip(taken["bare"], taken["t2ipal"], strict=True))
    for number, clock in enumerate(("wall clock", "CPU time")):
        ratios = [b[number] / t[number] for b, t in pairs]
        print(f"ratio   {spread(ratios, '.3f')} by {clock}")


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the wall clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


class Stamp:
    """Stands in for the miniature, so that many images are made in no time."""

    def __init__(self) -> None:
        source = locate("miniature")
        self.spec, self.revision = source.spec, str(source.revision)
        self.settings = Settings()
        self.drawn_on = {"device": "cpu", "dtype": "float32"}

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Drawn]:
        sources = [np.random.default_rng(seed) for seed in seeds]
        noise = [source.integers(0, 256, (8, 8, 3), np.uint8) for source in sources]
        return [Drawn(Image.fromarray(pixels), False) for pixels in noise]


def resume(count: int) -> None:
    """Print how long a second start of a finished run takes, the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        out, file = Path(folder) / "drawn", Path(folder) / "captions.jsonl"
        rows = captions(count)
        write_labelled(file, rows)
        generate(rows, Stamp(), out, batch_size=64, progress=False)
        command = [sys.executable, "-m", "t2ipal.cli", "generate", "--captions", str(file)]
        command += ["--generator", "miniature", "--out", str(out)]
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds.append(time.perf_counter() - started)
        print(done.stdout.splitlines()[0].replace(folder, "..."))
        print(f"a second start of a finished run of {count} images: {spread(seconds, '.2f')} s")


def spread(values: list[float], form: str) -> str:
    """Median and range."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(";")[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resume", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.resume:
        resume(arguments.resume)
        return
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.images} images "
        f"of {arguments.steps} steps, {arguments.batch} at a time"
    )
    compare(arguments.images, arguments.steps, arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
