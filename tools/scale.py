"""What a large run costs: a model of generate and embed, and a simulation of many workers.

    python tools/scale.py [--images 10000000] [--workers 64] [--seed 0]

The costs beside the networks (encoding a PNG, checking it, recording it, decoding it, writing
features, reading a manifest, labelling captions) are measured here, on one core of this machine,
of captions and manifest the memory too. The networks'
speeds are published figures, each with its source; they were not run here. The simulation
then plays a run through, batch by batch: workers that generate at different speeds, die at random
and come back, with parts assigned beforehand (``--shard I/N``) or one by one (``--engine ray``).

It prints the tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import heapq
import io
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption, label_each, read_labelled
from t2ipal.captions.sources import each_caption
from t2ipal.clip.shards import Item, ShardFolder
from t2ipal.files import write_jsonl
from t2ipal.generation.duplicates import fingerprint
from t2ipal.generation.screening import reject_reason
from t2ipal.generation.store import ImageRow, ImageStore, read_manifest
from t2ipal.vocabulary import Vocabulary


@dataclass(frozen=True)
class Published:
    """A network's speed on one device: images a second, and who says so."""

    what: str
    device: str
    images: float
    source: str


# diffusers' figures are iterations a second over a batch; 50 steps an image.
DIFFUSERS = "diffusers docs, optimization/torch2.0.md, commit 2c529b7, torch 2.0, no compile"
TIMM = "timm results/benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv"
GENERATION = {
    "paper, T4": Published("SD 1.5, 50 steps, 512 px, batch 4", "T4", 4 * 1.79 / 50, DIFFUSERS),
    "paper, A100": Published(
        "SD 1.5, 50 steps, 512 px, batch 16", "A100", 16 * 3.04 / 50, DIFFUSERS
    ),
    "paper, A100, exact": Published(
        "SD 1.5, 50 steps, 512 px, one at a time", "A100", 21.66 / 50, DIFFUSERS
    ),
    "sdxl-turbo, A100": Published(
        "SDXL-Turbo, one step, 512 px", "A100", 1 / 0.207, "Stability AI, announcement, Nov. 2023"
    ),
}
EMBEDDING = {
    "RN50": Published("CLIP RN50", "RTX 4090", 3513.39, TIMM),
    "ViT-B-32": Published("CLIP ViT-B/32", "RTX 4090", 10127.52, TIMM),
    "ViT-B-16": Published("CLIP ViT-B/16", "RTX 4090", 2783.55, TIMM),
}
FEATURES = {"RN50": (1024, 49), "ViT-B-32": (512, 49), "ViT-B-16": (512, 196)}  # D, positions


@dataclass(frozen=True)
class Costs:
    """Seconds of one core, and bytes, an image."""

    encode: float
    look: float
    write_down: float
    decode: float
    shard: float
    row_read: float
    row_bytes: float
    row_memory: float


def measure(side: int = 512) -> Costs:
    """The costs on this machine, of an image with about as much detail as a photo."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels = (pixels + rng.integers(-6, 7, (side, side, 3))).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    row = ImageRow(
        "0" * 20, "c0", 0, "a dog and a cat sit on a sofa near the window", ("dog", "cat"), (), 0,
        0, "stabilityai/sd-turbo", "0" * 40, {"steps": 2, "guidance": 0.0, "exact": True},
        "images/00/" + "0" * 20 + ".png", "0" * 64, (), (), (), "0" * 32,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = ImageStore(folder)
        store.begin()
        encode = seconds(lambda n: store.save(image, f"{n:020}"), 8)
        look = seconds(lambda n: (reject_reason(image), fingerprint(image)), 8)
        write_down = seconds(lambda n: store.append(row), 200)
        encoded = io.BytesIO()
        image.save(encoded, format="PNG")
        decode = seconds(lambda n: _decode(encoded.getvalue()), 8)
        items = [
            Item(f"{n:064}", torch.zeros(1024), torch.zeros(49, 1024).half()) for n in range(128)
        ]
        shards = ShardFolder(Path(folder) / "features", "x")
        shard = seconds(lambda n: shards.write(items, (7, 7)), 3) / len(items)
        count = 20000
        rows = [replace(row, id=f"{n:020}", caption_id=f"c{n}") for n in range(count)]
        store.finish(rows)
        size = store.manifest.stat().st_size / count
        del rows
        before = _memory()
        started = time.perf_counter()
        read = read_manifest(folder)
        took = (time.perf_counter() - started) / len(read)
        memory = (_memory() - before) / len(read)
    return Costs(encode, look, write_down, decode, shard, took, size, memory)


def measure_captions(count: int = 50_000) -> tuple[float, float, float, float]:
    """The costs of captions of about ten words, in a text with one on each line.

    Returns:
        Seconds of one core and bytes of memory per caption: labelling them, and reading them all.
    """
    vocabulary = Vocabulary.load("coco2014")
    sentence = "a dog and a cat sit on a {} sofa near window number {}\n"
    colours = ("red", "blue", "green", "white")
    with tempfile.TemporaryDirectory() as folder:
        path, labelled = Path(folder) / "captions.txt", Path(folder) / "captions.jsonl"
        path.write_text("".join(sentence.format(colours[n % 4], n) for n in range(count)))
        memory = 0.0

        def rows() -> Iterator[LabelledCaption]:
            nonlocal memory
            for number, row in enumerate(label_each(each_caption(path), vocabulary), start=1):
                if number == 1000:  # the word lists are loaded
                    memory = -_memory()
                elif number == count:
                    memory += _memory()
                yield row

        started = time.perf_counter()
        write_jsonl(labelled, rows())
        label = (time.perf_counter() - started) / count
        before, started = _memory(), time.perf_counter()
        held = read_labelled(labelled)
        read = (time.perf_counter() - started) / count
        return label, memory / count, read, (_memory() - before) / len(held)


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)


def _memory() -> float:
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def seconds(work: Callable[[int], object], times: int) -> float:
    """Median seconds of a call."""
    taken = []
    for number in range(times):
        started = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@dataclass(frozen=True)
class Cluster:
    """Workers and their luck.

    Attributes:
        workers: each with one device.
        rate: images a second of a worker's device.
        spread: relative deviation of the workers' speeds.
        hours_between_deaths: of one worker, on average.
        minutes_to_return: from a death to the first new batch.
        batch: images generated together, which a death loses.
    """

    workers: int
    rate: float
    spread: float = 0.05
    hours_between_deaths: float = 200.0
    minutes_to_return: float = 10.0
    batch: int = 16


def simulate(images: int, cluster: Cluster, *, dealt: bool, seed: int) -> tuple[float, float]:
    """Hours until the last image is there, and the share of the workers' time that was idle.

    Args:
        dealt: every worker has its part from the start; else it takes the next batch when free.
    """
    rng = random.Random(seed)
    speed = [cluster.rate * max(0.2, rng.gauss(1, cluster.spread)) for _ in range(cluster.workers)]
    batches = -(-images // cluster.batch)
    left = [batches // cluster.workers + (w < batches % cluster.workers) for w in range(len(speed))]
    common = batches
    lifetime = cluster.hours_between_deaths * 3600
    death = [rng.expovariate(1 / lifetime) for _ in speed]
    ready = [(0.0, worker) for worker in range(cluster.workers)]
    busy, end = 0.0, 0.0
    while ready:
        now, worker = heapq.heappop(ready)
        if (left[worker] if dealt else common) == 0:
            continue
        done = now + cluster.batch / speed[worker]
        if done > death[worker]:  # the batch is lost and generated again
            back = death[worker] + 60 * cluster.minutes_to_return
            death[worker] = back + rng.expovariate(1 / lifetime)
            heapq.heappush(ready, (back, worker))
            continue
        left[worker] -= 1
        common -= 1
        busy += done - now
        end = max(end, done)
        heapq.heappush(ready, (done, worker))
    return end / 3600, 1 - busy / (end * cluster.workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    costs = measure()
    print("Measured, one core, an image of 512 x 512 pixels:")
    for what, value in (
        ("encode and write a PNG", costs.encode),
        ("look for black, flat and near-duplicate", costs.look),
        ("append to the journal", costs.write_down),
        ("decode and resize", costs.decode),
        ("write its features (RN50, 7 x 7)", costs.shard),
        ("read its row of the manifest", costs.row_read),
    ):
        print(f"  {what:42} {1000 * value:8.3f} ms")
    print(f"  a row: {costs.row_bytes:.0f} bytes on disk, {costs.row_memory:.0f} in memory")
    label, label_memory, read, read_memory = measure_captions()
    print(
        f"  a caption: labelled in {1000 * label:.3f} ms, {label_memory:.0f} "
        f"bytes held meanwhile; read in {1000 * read:.3f} ms, "
        f"{read_memory:.0f} bytes"
    )
    cpu = costs.encode + costs.look + costs.write_down
    print("\nPublished:")
    for speed in (*GENERATION.values(), *EMBEDDING.values()):
        print(f"  {speed.what:42} {speed.device:9} {speed.images:9.2f} images/s  ({speed.source})")
    print(
        "\nModel: hours of generation = images / (devices x images/s); cores per device to keep up"
    )
    print(f"{'setting':22} {'10,000, 1':>12} {'100,000, 8':>12} {'cores a device':>15}")
    for name, speed in GENERATION.items():
        one = 10_000 / speed.images / 3600
        eight = 100_000 / 8 / speed.images / 3600
        print(f"{name:22} {one:10.1f} h {eight:10.1f} h {cpu * speed.images:15.2f}")
    print("\nEmbedding: cores that decode as fast as one device computes; bytes an image")
    for name, clip in EMBEDDING.items():
        width, positions = FEATURES[name]
        size, pooled = (4 * width + 2 * width * p for p in (positions, 9))
        cores = costs.decode * clip.images
        print(f"  {name:9} {cores:6.1f} cores   {size:8,} bytes, --local-grid 3: {pooled:7,}")
    print(f"\nSimulation: {arguments.images:,} images, {arguments.workers} workers, {DIFFUSERS}")
    print("  speeds differ by 5 %; a worker dies every 200 hours on average, back after 10 minutes")
    print(f"{'setting':22} {'dealt out':>20} {'one by one':>20}")
    for name, speed in GENERATION.items():
        cluster = Cluster(arguments.workers, speed.images)
        cells = [
            simulate(arguments.images, cluster, dealt=dealt, seed=arguments.seed)
            for dealt in (True, False)
        ]
        print(f"{name:22} " + " ".join(f"{h:9.1f} h, {idle:5.1%} idle" for h, idle in cells))
    terabytes = arguments.images * 3 * 512 * 512 / 1e12
    print(
        f"\nOn disk: at most {terabytes:.1f} TB of PNG; manifest "
        f"{arguments.images * costs.row_bytes / 1e9:.1f} GB, read in "
        f"{arguments.images * costs.row_read / 60:.0f} minutes into "
        f"{arguments.images * costs.row_memory / 1e9:.0f} GB of memory"
    )
    print(
        f"As many captions: labelled in {arguments.images * label / 3600:.1f} hours with "
        f"{arguments.images * label_memory / 1e9:.1f} GB of memory; read by generate and "
        f"train in {arguments.images * read / 60:.0f} minutes into "
        f"{arguments.images * read_memory / 1e9:.0f} GB"
    )


if __name__ == "__main__":
    main()
