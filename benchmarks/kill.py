"""SIGKILL at random moments: is the finished store that of a run which nobody disturbed?

    python benchmarks/kill.py                      generate, embed and a Ray run, 20 kills each
    python benchmarks/kill.py embed --kills 4      one of them

Each run is a process forked from this one, which has imported all it needs, so that a start costs
little. It is killed and started again on the same folder until it comes to
its end; then the folder is compared with the undisturbed one, byte for byte, and the next folder
begins, until there were enough kills. The Ray run (needs ``t2ipal[ray]``) draws on a cluster of two
workers; every other kill hits a worker, which Ray replaces, the others the run itself.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.features import FeatureCache
from t2ipal.cluster import Cluster
from t2ipal.files import sha256_file
from t2ipal.synthesis.generator import generate
from t2ipal.synthesis.settings import Settings
from t2ipal.synthesis.text_to_image import TextToImage

NOUNS = ("dog", "cat", "horse", "bus", "train", "boat", "sofa", "bird", "cow", "bottle")
SETTINGS = Settings(steps=2, device="cpu")


def draw(
    out: Path, *, count: int, painter: TextToImage | str, cluster: Cluster | None = None
) -> None:
    """Draw ``count`` captions."""
    captions = [
        LabelledCaption(f"c{n}", f"a {NOUNS[n % 10]} number {n}", (NOUNS[n % 10],), (), {})
        for n in range(count)
    ]
    settings = SETTINGS if isinstance(painter, str) else None
    generate(
        captions, painter, out, batch_size=2, settings=settings, cluster=cluster, progress=False
    )


def embed(out: Path, *, files: list[Path], hashes: list[str], texts: list[str]) -> None:
    """Bring images and captions through the miniature CLIP into a feature cache."""
    cache = FeatureCache(out, Backbone.load("miniature", device="cpu"))
    cache.embed_images(files, hashes, progress=False)
    cache.captions(texts, progress=False)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder``, hidden ones too, with its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def start(job: Callable[[Path], None], out: Path) -> Any:
    process = get_context("fork").Process(target=job, args=(out,))
    process.start()
    return process


def ray_workers(out: Path) -> list[int]:
    """The living processes that have a journal in ``out``."""
    found = []
    for journal in out.glob("images.partial.ray-*.jsonl"):
        pid = int(journal.name.split("-")[1])
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and command.read_bytes().startswith(b"ray::"):
            found.append(pid)
    return found


def torment(
    name: str, job: Callable[[Path], None], work: Path, kills: int, chance: random.Random
) -> bool:
    """Kill ``job`` at random moments ``kills`` times; whether every finished folder is right."""
    began = time.monotonic()
    whole = start(job, work / "whole")
    whole.join()
    if whole.exitcode != 0:
        raise SystemExit(f"{name}: the undisturbed run failed.")
    takes = time.monotonic() - began
    expected = tree(work / "whole")
    done = hits = in_the_middle = right = folders = 0
    while done < kills:
        out = work / f"killed-{folders}"
        folders += 1
        finished = False
        while not finished:
            process = start(job, out)
            if done < kills:
                process.join(chance.uniform(0, takes / 2))
            else:
                process.join()
            if process.exitcode is None:
                in_the_middle += any(path.is_file() for path in out.rglob("*"))
                victims = ray_workers(out) if done % 2 else []
                if victims:
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    hits += 1
                else:
                    process.kill()
                done += 1
            process.join()
            if process.exitcode not in (0, -signal.SIGKILL):
                raise SystemExit(f"{name}: the run failed with status {process.exitcode}.")
            finished = process.exitcode == 0
        right += tree(out) == expected
        shutil.rmtree(out)
    of_workers = f" ({hits} of a worker)" if hits else ""
    print(
        f"{name}: {done} kills{of_workers}, {in_the_middle} of them with files there; {right} of "
        f"{folders} finished folders equal the undisturbed one ({len(expected)} files) byte for "
        f"byte; undisturbed {takes:.1f} s, all {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return right == folders


@contextmanager
def ray_cluster() -> Iterator[None]:
    """A cluster of this machine with two processors, in processes of its own."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    options = ["--port=6399", "--num-cpus=2", "--include-dashboard=false"]
    cluster = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    os.environ["RAY_ADDRESS"] = "127.0.0.1:6399"
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.terminate()
        cluster.wait()


def small_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number:04}.png" for number in range(count)]
    for number, file in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stages", nargs="*", default=["generate", "embed", "ray"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=3000, help="to embed")
    parser.add_argument("--drawings", type=int, default=96, help="to draw")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a process that has used more cannot be forked
    chance = random.Random(arguments.seed)
    right = True
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for stage in arguments.stages:
            (work / stage).mkdir()
            torment_stage = partial(
                torment, stage, work=work / stage, kills=arguments.kills, chance=chance
            )
            if stage == "generate":
                painter = TextToImage.load("miniature", settings=SETTINGS)
                right &= torment_stage(partial(draw, count=arguments.drawings, painter=painter))
            elif stage == "embed":
                files = small_images(work / "small", arguments.images)
                hashes = [sha256_file(file) for file in files]
                texts = [f"a {NOUNS[n % 10]} and {n} others" for n in range(arguments.images // 2)]
                job = partial(embed, files=files, hashes=hashes, texts=texts)
                right &= torment_stage(job)
            elif stage == "ray":
                with ray_cluster():
                    cluster = Cluster(2)
                    job = partial(
                        draw, count=arguments.drawings, painter="miniature", cluster=cluster
                    )
                    right &= torment_stage(job)
            else:
                parser.error(f"no such stage: {stage}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
