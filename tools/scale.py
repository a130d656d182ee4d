"""What a large run costs: a model of generate and embed, and a simulation of many workers.

    python tools/scale.py [--images 10000000] [--workers 64] [--seed 0]
    python tools/scale.py --resume 10000000    # only: what resuming such a job takes and holds
    python tools/scale.py --train 1000000      # only: the same of training on so many images

The costs beside the networks (encoding a PNG, checking it, recording it, decoding it, writing
features, reading a manifest, labelling captions) are measured here, on one core of this machine,
of captions and manifest the memory too. The networks' speeds are published figures, each with its
source; they were not run here. The simulation
then plays a run through, batch by batch: workers that generate at different speeds, die at random
and come back, with parts assigned beforehand (``--shard I/N``) or one by one (``--engine ray``).

It prints the tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import heapq
import io
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption, label_each, read_labelled
from t2ipal.captions.sources import each_caption
from t2ipal.clip import shards
from t2ipal.clip.shards import Item, ShardFolder
from t2ipal.files import row_file, sha256_text, write_jsonl
from t2ipal.generation.duplicates import fingerprint
from t2ipal.generation.job import Identity, Plan
from t2ipal.generation.screening import reject_reason
from t2ipal.generation.store import ImageRow, ImageStore, image_id, read_manifest
from t2ipal.runs.workbench import Workbench
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
    """Seconds of one core, and bytes on disk, an image."""

    encode: float
    look: float
    write_down: float
    decode: float
    shard: float
    row_read: float
    row_bytes: float


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
        started = time.perf_counter()
        rows_read = len(read_manifest(folder))
        took = (time.perf_counter() - started) / rows_read
    return Costs(encode, look, write_down, decode, shard, took, size)


def measure_captions(count: int = 50_000) -> tuple[float, float, float]:
    """The costs of captions of about ten words, in a text with one on each line.

    Returns:
        Of a caption: seconds of one core and bytes of memory to label it, seconds to read it.
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
        started = time.perf_counter()
        read_labelled(labelled)
        return label, memory / count, (time.perf_counter() - started) / count


_Work = Callable[[Path, int], Callable[[], object]]


def measured(work: _Work, count: int) -> tuple[float, float, float]:
    """Bytes of memory, at the end and at most, and seconds of one core, of work on ``count`` rows.

    Files that are mapped are not counted: the system can page them out. In a process of its own,
    which gives memory back that is free again, as all do with large arrays.

    Args:
        work: prepares the work in a folder, and returns it.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # read by the C library of the new process
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, count).result()


def _measured(work: _Work, count: int) -> tuple[float, float, float]:
    torch.set_num_threads(1)
    row_file._SMALL = 0  # as for a large file
    with tempfile.TemporaryDirectory() as folder:
        begin = work(Path(folder), count)
        peak, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.01):
                peak.append(max(peak.pop(), _anonymous()))

        watcher = threading.Thread(target=watch)
        before, started = _anonymous(), time.process_time()
        watcher.start()
        try:
            kept = begin()
        finally:
            took = time.process_time() - started
            done.set()
            watcher.join()
        held = _anonymous() - before
        del kept
    return held, peak[0] - before, took


def training(folder: Path, count: int) -> Callable[[], Workbench]:
    """A workbench of captions with an image each; their features are mapped, as large ones are."""
    shards._IN_MEMORY_BYTES = 0
    backbone: Any = SimpleNamespace(image_space="image", text_space="text", preprocess=None)
    unit = torch.tensor([0.6, 0.8])
    local = unit.half().expand(2, 2).contiguous()  # of 2 positions, 2 wide
    for space, grid, row in (
        ("captions-text", None, lambda n: _caption(n).caption),
        ("images-image", (1, 2), str),
    ):
        cache = ShardFolder(folder / "features", space)
        for first in range(0, count, 256):
            part = range(first, min(first + 256, count))
            cache.write([Item(sha256_text(row(n)), unit, local) for n in part], grid)
    _write(folder, count)

    def begin() -> Workbench:
        return Workbench(
            Vocabulary.load("voc2007"), backbone, folder / "features",
            read_labelled(folder / "captions.jsonl"), read_manifest(folder), folder,
            progress=False,
        )  # fmt: skip

    return begin


def resuming(folder: Path, count: int) -> Callable[[], Plan]:
    """What ``generate`` looks up of a finished job, but whether its files are there."""
    _write(folder, count)
    store = ImageStore(folder)
    store.has = lambda row: True  # type: ignore[method-assign]
    identity = Identity(_GENERATOR, _REVISION, _SETTINGS, 0)

    def begin() -> Plan:
        plan = Plan(read_labelled(folder / "captions.jsonl"), 1, store, identity, 3)
        assert plan.usable.all() and plan.listed([]) and not plan.tally.near()
        return plan

    return begin


_GENERATOR, _REVISION = "stabilityai/sd-turbo", "0" * 40
_SETTINGS = {"steps": 2, "guidance": 0.0, "exact": True}


def _write(folder: Path, count: int) -> None:
    """Captions, and the manifest of an image of each."""
    write_jsonl(folder / "captions.jsonl", map(_caption, range(count)))
    write_jsonl(folder / "images.jsonl", map(_image, range(count)))


def _caption(number: int) -> LabelledCaption:
    labels = (("dog", "sofa"), ("cat",), ("bird", "boat", "person"))[number % 3]
    text = f"{' and '.join(labels)} near the window number {number}"
    return LabelledCaption(f"c{number}", text, labels, (), {name: name for name in labels})


def _image(number: int) -> ImageRow:
    caption = _caption(number)
    id, digest = image_id(caption.id, 0), sha256_text(str(number))
    seed = Identity(_GENERATOR, _REVISION, _SETTINGS, 0).image_seed(caption.id, 0, 0)
    return ImageRow(
        id, caption.id, 0, caption.caption, caption.labels, (), seed, 0, _GENERATOR, _REVISION,
        _SETTINGS, f"images/{id[:2]}/{id}.png", digest, (), caption.labels[: number % 5 == 0], (),
        digest[:32],
    )  # fmt: skip


def _anonymous() -> float:
    """Bytes of memory that are no mapped file's; Linux alone tells them apart."""
    if sys.platform != "linux":
        return _memory()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


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
    parser.add_argument("--resume", type=int, metavar="N")
    parser.add_argument("--train", type=int, metavar="N")
    arguments = parser.parse_args()
    for work, count in ((resuming, arguments.resume), (training, arguments.train)):
        if count:
            held, most, took = measured(work, count)
            print(
                f"{work.__name__}, {count:,} images: {held / 1e9:.2f} GB held, {most / 1e9:.2f} GB "
                f"at most, {took:.0f} s"
            )
    if arguments.resume or arguments.train:
        return
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
    print(f"  a row: {costs.row_bytes:.0f} bytes on disk")
    label, label_memory, read = measure_captions()
    print(
        f"  a caption: labelled in {1000 * label:.3f} ms, {label_memory:.0f} bytes held meanwhile; "
        f"read in {1000 * read:.3f} ms"
    )
    print("  a caption and its image, bytes held, bytes at most while they are read, and time:")
    for what, work in (
        ("to resume generating", resuming),
        ("to train, without features", training),
    ):
        few, many = measured(work, 20_000), measured(work, 200_000)
        held, most, took = ((b - a) / 180_000 for a, b in zip(few, many, strict=True))
        print(f"    {what:30} {held:4.0f} {most:6.0f} {1000 * took:8.3f} ms")
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
        f"{arguments.images * costs.row_read / 60:.0f} minutes"
    )
    print(
        f"As many captions: labelled in {arguments.images * label / 3600:.1f} hours with "
        f"{arguments.images * label_memory / 1e9:.1f} GB of memory; read by generate and "
        f"train in {arguments.images * read / 60:.0f} minutes"
    )


if __name__ == "__main__":
    main()
