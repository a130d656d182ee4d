"""Images per second into the feature cache, against a bare open_clip loop over the same files.

    python -m tools.embed_speed [--models RN50 ViT-B-32 photo] [--images 128] [--rounds 5]
                                [--device cpu]
    python -m tools.embed_speed --memory 10000

Both sides read the same JPEG files of 640 x 480 pixels, prepare them with the model's own
transform and send them through the same model at random weights, 32 at a time, without gradients:

* bare: ``model.encode_image``, global features alone, which stay in memory.
* t2ipal: ``FeatureCache.embed_images`` into an empty folder: files are hashed, global and local
  features are computed and written as shards.

The sides take turns in one process, each with a model of its own; printed are the median of the
rounds and its range, and the largest difference of the normalised global features. With
``--memory N`` the peak memory of embedding N small files is compared with that of a tenth of them,
each in a process of its own, with a small CLIP.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from tools.rounds import limit, spread

from t2ipal.clip import photo_clip
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.runs.benchmark.proof import made_pictures
from t2ipal.runs.benchmark.speed_checks import bare_embedding, cached_embedding

BATCH = 32


def load(name: str, device: str) -> tuple[Any, Any, Backbone]:
    """A model of open_clip (at random weights, or packaged), its transform, and our backbone."""
    if name == "photo":
        place = f"local-dir:{photo_clip.path()}"
        model, transform = open_clip.create_model_from_pretrained(place)
        clip = Backbone.load(ClipSettings(clip=name, device=device))
        return model.eval().to(device), transform, clip
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.eval().to(device)
    tokenizer = open_clip.get_tokenizer(name)
    return model, transform, Backbone.wrap(model, tokenizer, transform, clip=name, device=device)


def compare(name: str, files: list[Path], rounds: int, device: str) -> None:
    """Print one model's row."""
    model, transform, clip = load(name, device)
    theirs = bare_embedding(model, transform, files[:BATCH], device, "fp32", BATCH)
    with torch.no_grad():
        pixels = torch.stack([clip.preprocess(Image.open(path)) for path in files[:BATCH]])
    unit = torch.nn.functional.normalize
    distance = (unit(clip.encode_image(pixels).global_).cpu() - unit(theirs)).abs().max()
    cached_embedding(clip, files[:BATCH], BATCH)
    rates: dict[str, list[float]] = {"bare": [], "t2ipal": []}
    sides: dict[str, Callable[[list[Path]], object]] = {
        "bare": lambda some: bare_embedding(model, transform, some, device, "fp32", BATCH),
        "t2ipal": lambda some: cached_embedding(clip, some, BATCH),
    }
    for _ in range(rounds):
        for side, run in sides.items():
            started = time.perf_counter()
            run(files)
            rates[side].append(len(files) / (time.perf_counter() - started))
    ratios = [b / a for a, b in zip(rates["bare"], rates["t2ipal"], strict=True)]
    print(
        f"{name:10} {spread(rates['bare'], '.1f'):>22} {spread(rates['t2ipal'], '.1f'):>22} "
        f"{spread(ratios, '.2f'):>22} {distance:>12.1e}",
        flush=True,
    )


def memory(count: int) -> None:
    """Print how much more memory many files need than few."""
    with tempfile.TemporaryDirectory() as folder:
        files = made_pictures(Path(folder), count, (48, 48))
        few = files[: count // 10]
        peaks = {len(some): _alone(Path(folder), len(some)) for some in (few, files)}
    for size, peak in peaks.items():
        print(f"{size:7} files: peak {peak / 2**20:.0f} MB")
    print(f"growth: {(peaks[len(files)] - peaks[len(few)]) / 2**20:.0f} MB")


def _alone(folder: Path, count: int) -> int:
    command = [sys.executable, "-m", "tools.embed_speed", "--alone", str(folder), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["RN50", "ViT-B-32", "photo"])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=int, metavar="N")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        folder, count = arguments.alone
        files = sorted(Path(folder).glob("*.jpg"))[: int(count)]
        cached_embedding(Backbone.load(ClipSettings(clip="miniature", device="cpu")), files, BATCH)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10)
        return
    if arguments.memory:
        memory(arguments.memory)
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, batches of {BATCH}")
    print(limit(arguments.device))
    columns = ("bare, images/s", "t2ipal, images/s", "ratio")
    print("model     ", *(f"{column:>22}" for column in columns), f"{'difference':>12}")
    with tempfile.TemporaryDirectory() as folder:
        files = made_pictures(Path(folder), arguments.images, (640, 480))
        for name in arguments.models:
            compare(name, files, arguments.rounds, arguments.device)


if __name__ == "__main__":
    main()
