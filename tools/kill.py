"""SIGKILL at random moments: does the finished store equal that of an undisturbed run?

    python tools/kill.py                      generate, embed and a Ray run, 20 kills each
    python tools/kill.py embed --kills 4      one of them

Each run is a process forked from this one, which has imported all it needs, so that a start costs
little. It is killed and resumed on the same folder until it finishes; then the folder is compared
with the undisturbed one, byte for byte, and the next folder begins, until there are enough kills.
The Ray run (needs ``ray[data]``) generates on a cluster of two workers; every other kill hits a
worker, which Ray replaces, the others the run itself.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: a process with more cannot be forked

import argparse
import contextlib
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
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.clip import features
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.features import FeatureCache
from t2ipal.files import sha256_file
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import generate
from t2ipal.parallel.cluster import Cluster

NOUNS = ("dog", "cat", "horse", "bus", "train", "boat", "sofa", "bird", "cow", "bottle")
SETTINGS = Settings(steps=2, device="cpu")
Job = Callable[[Path], None]
Torment = Callable[[Job], bool]


def generate_images(
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
    features._SHARD_ITEMS = 32  # an eighth of what it is, so that more files are half-way there
    cache = FeatureCache(out, Backbone.load(ClipSettings(clip="miniature", device="cpu")))
    cache.embed_images(files, hashes, progress=False)
    cache.captions(texts, progress=False)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder``, hidden ones too, with its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def start(job: Job, out: Path) -> Any:
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


def torment(name: str, kills: int, chance: random.Random, work: Path, job: Job) -> bool:
    """Kill ``job`` at random moments ``kills`` times; whether every finished folder is right."""
    began = time.monotonic()
    whole = start(job, work / "whole")
    whole.join()
    if whole.exitcode != 0:
        raise SystemExit(f"{name}: the undisturbed run failed.")
    takes = time.monotonic() - began
    expected = tree(work / "whole")
    hit: list[str] = []  # "run" or "worker" for each kill
    in_the_middle = right = folders = 0
    while len(hit) < kills:
        out = work / f"killed-{folders}"
        folders += 1
        finished = False
        while not finished:
            process = start(job, out)
            if len(hit) < kills:
                process.join(chance.uniform(0, takes / 2))
                victim = strike(process, out, name == "ray" and len(hit) % 2 == 1, chance)
                if victim is not None:
                    hit.append(victim)
                    in_the_middle += any(path.is_file() for path in out.rglob("*"))
            process.join()
            if process.exitcode not in (0, -signal.SIGKILL):
                raise SystemExit(f"{name}: the run failed with status {process.exitcode}.")
            finished = process.exitcode == 0
        right += tree(out) == expected
        shutil.rmtree(out)
    workers = f" ({hit.count('worker')} of them of a worker)" if name == "ray" else ""
    print(
        f"{name}: {len(hit)} kills{workers}, {in_the_middle} when there were files; {right} of "
        f"{folders} finished folders equal the undisturbed one ({len(expected)} files) byte for "
        f"byte; undisturbed {takes:.1f} s, all {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return right == folders


def strike(process: Any, out: Path, a_worker: bool, chance: random.Random) -> str | None:
    """SIGKILL the run, or one of its workers once they generate; None if it has ended before."""
    while a_worker and process.is_alive():
        if workers := ray_workers(out):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
                return "worker"
        time.sleep(0.01)
    if not process.is_alive():
        return None
    process.kill()
    return "run"


CLUSTER = """
import sys, ray
ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def ray_cluster() -> Iterator[None]:
    """A cluster of this machine with two processors, in processes of its own."""
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        os.environ["RAY_ADDRESS"] = cluster.stdout.readline().decode().strip()
        os.environ["RAY_AUTH_MODE"] = "token"  # Ray keeps one for the clusters that it makes itself
        yield
        del os.environ["RAY_ADDRESS"], os.environ["RAY_AUTH_MODE"]
        cluster.stdin.close()


def small_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number:04}.png" for number in range(count)]
    for number, file in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stages", nargs="*", default=list(STAGES))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=1000, help="to embed")
    parser.add_argument("--generated", type=int, default=96, help="images to generate")
    arguments = parser.parse_args()
    right = True
    with tempfile.TemporaryDirectory() as temporary:
        for stage in arguments.stages:
            if stage not in STAGES:
                parser.error(f"no such stage: {stage}")
            # In a process of its own: one that has computed anything cannot be forked.
            (Path(temporary) / stage).mkdir()
            process = start(partial(run_stage, stage, arguments), Path(temporary) / stage)
            process.join()
            right &= process.exitcode == 0
    return 0 if right else 1


def run_stage(stage: str, arguments: argparse.Namespace, work: Path) -> None:
    chance = random.Random(arguments.seed)
    if not STAGES[stage](arguments, partial(torment, stage, arguments.kills, chance, work), work):
        sys.exit(1)


def torment_generate(arguments: argparse.Namespace, torment: Torment, work: Path) -> bool:
    painter = TextToImage.load("miniature", settings=SETTINGS)
    return torment(partial(generate_images, count=arguments.generated, painter=painter))


def torment_embed(arguments: argparse.Namespace, torment: Torment, work: Path) -> bool:
    files = small_images(work / "small", arguments.images)
    hashes = [sha256_file(file) for file in files]
    texts = [f"a {NOUNS[n % 10]} and {n} others" for n in range(arguments.images // 2)]
    return torment(partial(embed, files=files, hashes=hashes, texts=texts))


def torment_ray(arguments: argparse.Namespace, torment: Torment, work: Path) -> bool:
    with ray_cluster():
        two = Cluster(2)
        return torment(
            partial(generate_images, count=arguments.generated, painter="miniature", cluster=two)
        )


STAGES = {"generate": torment_generate, "embed": torment_embed, "ray": torment_ray}


if __name__ == "__main__":
    sys.exit(main())
