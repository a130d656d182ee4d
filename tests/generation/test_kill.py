"""SIGKILL in the middle, then on: the same bytes as a run that nobody disturbed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import generate

Tree = Callable[[Path], dict[str, bytes]]

# What the killed process runs. The noise needs neither torch nor diffusers, so it starts quickly.
NOISE = """
import sys, time
import numpy as np
from PIL import Image
from t2ipal.captions.labelled import LabelledCaption
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import GeneratedImage
from t2ipal.generation.generate import generate

class Noise:
    spec, revision, settings = "noise", "1", Settings()
    generated_on = {"device": "cpu", "dtype": "float32"}

    def generate(self, prompts, seeds):
        time.sleep(float(sys.argv[2]))
        sizes = [0 if seed % 5 == 0 else 256 for seed in seeds]  # every fifth image is black
        return [
            GeneratedImage(Image.fromarray(np.random.default_rng(seed).integers(
                0, max(size, 1), (48, 48, 3), dtype=np.uint8)), False)
            for seed, size in zip(seeds, sizes)
        ]

captions = [LabelledCaption(f"c{n}", f"dog {n}", ("dog",), (), {}) for n in range(60)]
generate(captions, Noise(), sys.argv[1], batch_size=3, progress=False)
"""

TINY = """
import sys, time
from t2ipal.captions.labelled import LabelledCaption
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import generate

class Slow(TextToImage):
    def generate(self, prompts, seeds):
        time.sleep(0.2)
        return super().generate(prompts, seeds)

captions = [LabelledCaption(f"c{n}", f"a dog and {n} cats", ("dog",), (), {}) for n in range(16)]
generator = Slow.load(sys.argv[2], settings=Settings(steps=3, device="cpu"))
generate(captions, generator, sys.argv[1], batch_size=2, progress=False)
"""


def start(script: str, *arguments: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])


def wait_for_rows(process: subprocess.Popen[bytes], out: Path, rows: int) -> None:
    """Return once the journal has ``rows`` rows, or the process has ended."""
    journal = out / "images.partial.jsonl"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.002)
    assert process.poll() is not None, "the journal does not grow"


def test_killed_at_random_moments(tmp_path: Path, tree: Tree) -> None:
    assert start(NOISE, tmp_path / "whole", 0).wait() == 0
    chance = random.Random(7)
    out, kills, seen = tmp_path / "killed", 0, 0
    while kills < 5:
        process = start(NOISE, out, 0.05)
        wait_for_rows(process, out, seen + chance.randint(1, 9))
        time.sleep(chance.random() * 0.05)
        process.kill()
        if process.wait() == 0:
            break  # it was faster than the signal
        assert process.returncode == -signal.SIGKILL
        kills += 1
        seen = (out / "images.partial.jsonl").read_bytes().count(b"\n")
        assert not (out / "images.jsonl").exists()
    assert kills >= 3
    assert start(NOISE, out, 0).wait() == 0
    assert tree(out) == tree(tmp_path / "whole")


def test_diffusion_killed_and_resumed_with_another_batch_size(
    tmp_path: Path, tiny: Path, tree: Tree
) -> None:
    process = start(TINY, tmp_path / "killed", tiny)
    wait_for_rows(process, tmp_path / "killed", 4)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    survived = (tmp_path / "killed/images.partial.jsonl").read_bytes().count(b"\n")
    assert 4 <= survived < 16 and not (tmp_path / "killed/images.jsonl").exists()

    captions = [
        LabelledCaption(f"c{n}", f"a dog and {n} cats", ("dog",), (), {}) for n in range(16)
    ]
    generator = TextToImage.load(str(tiny), settings=Settings(steps=3, device="cpu"))
    summary = generate(captions, generator, tmp_path / "killed", batch_size=8, progress=False)
    assert (summary.reused, summary.generated) == (survived, 16 - survived)
    generate(captions, generator, tmp_path / "whole", batch_size=1, progress=False)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert len(tree(tmp_path / "whole")) == 17
