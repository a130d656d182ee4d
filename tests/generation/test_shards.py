"""Several processes share a job: each image is generated once, and the bytes are those of one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.generation.generate import generate
from t2ipal.generation.store import read_manifest
from t2ipal.generation.summary import GenerateSummary
from t2ipal.parallel.sharding import Shard

Tree = Callable[[Path], dict[str, bytes]]


def run(captions: Sequence[Any], generator: Any, out: Path, **options: Any) -> GenerateSummary:
    return generate(captions, generator, out, progress=False, images_per_caption=3, **options)


@given(st.text(), st.integers(1, 9))
def test_every_item_belongs_to_one_part(item: str, count: int) -> None:
    takers = [i for i in range(count) if Shard(i, count).takes(sha256_text(item))]
    assert len(takers) == 1


def test_parts_are_read_and_refused() -> None:
    assert Shard.parse("2/5") == Shard(2, 5) and str(Shard(2, 5)) == "2/5"
    for text, message in (("4", "must be I/N"), ("a/b", "must be I/N"), ("4/4", "from 0 to N - 1")):
        with pytest.raises(UserError, match=message):
            Shard.parse(text)


def test_parts_in_any_order_make_the_bytes_of_one_process(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    spoil = lambda seed: "black" if seed % 4 == 0 else None  # noqa: E731
    run(captions, noise(spoil), tmp_path / "one")
    generated = 0
    for place, index in enumerate((2, 0, 1)):
        summary = run(captions, noise(spoil), tmp_path / "three", shard=Shard(index, 3))
        generated += summary.generated
        if place < 2:
            assert summary.missing > 0 and not (tmp_path / "three" / "images.jsonl").exists()
            assert "of other shards are missing" in summary.lines()[0]
            with pytest.raises(UserError, match="images are still missing"):
                read_manifest(tmp_path / "three")
            again = noise(spoil)
            repeated = run(captions, again, tmp_path / "three", shard=Shard(index, 3))
            assert repeated.nothing_to_do and again.calls == []
    assert summary.missing == 0 and generated == summary.images
    assert tree(tmp_path / "one") == tree(tmp_path / "three")


def test_one_process_finishes_what_lost_shards_left(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    run(captions, noise(), tmp_path / "one")
    run(captions, noise(), tmp_path / "left", shard=Shard(1, 4))
    rest = noise()
    summary = run(captions, rest, tmp_path / "left")
    assert rest.generated == summary.generated < summary.images == 30
    assert tree(tmp_path / "one") == tree(tmp_path / "left")


def test_a_line_that_another_process_is_writing_is_not_read(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    run(captions, noise(), tmp_path / "one")
    run(captions, noise(), tmp_path / "two", shard=Shard(0, 2))
    journal = tmp_path / "two" / "images.partial.0-of-2.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    before = journal.read_bytes()
    run(captions, noise(), tmp_path / "two", shard=Shard(1, 2))
    assert journal.read_bytes() == before  # it is not ours to mend
    run(captions, noise(), tmp_path / "two", shard=Shard(0, 2))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    journal.write_bytes(b'{"id": \n' + whole)
    with pytest.raises(UserError, match=r"0-of-2\.jsonl:1: broken JSON"):
        run(captions, noise(), tmp_path / "two", shard=Shard(1, 2))


def test_nothing_is_overwritten_by_a_part(tmp_path: Path, captions: Any, noise: Any) -> None:
    with pytest.raises(UserError, match="exclude each other"):
        run(captions, noise(), tmp_path, shard=Shard(0, 2), overwrite=True)


SCRIPT = """
import sys, time
import numpy as np
from PIL import Image
from t2ipal.captions.labelled import LabelledCaption
from t2ipal.parallel.sharding import Shard
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import GeneratedImage
from t2ipal.generation.generate import generate

class Noise:
    spec, revision, settings = "noise", "1", Settings()
    generated_on = {"device": "cpu", "dtype": "float32"}

    def generate(self, prompts, seeds):
        time.sleep(0.03)
        return [
            GeneratedImage(Image.fromarray(np.random.default_rng(seed).integers(
                0, 256 if seed % 5 else 1, (32, 32, 3), dtype=np.uint8)), False)
            for seed in seeds
        ]

captions = [LabelledCaption(f"c{n}", f"dog {n}", ("dog",), (), {}) for n in range(60)]
shard = Shard.parse(sys.argv[2]) if len(sys.argv) > 2 else None
generate(captions, Noise(), sys.argv[1], batch_size=3, progress=False, shard=shard)
"""


def test_processes_side_by_side_with_kills(tmp_path: Path, tree: Tree) -> None:
    def start(out: str, *shard: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / out), *shard])

    assert start("one").wait() == 0
    chance, kills = random.Random(3), 0
    parts = {f"{i}/3": start("three", f"{i}/3") for i in range(3)}
    journals = tmp_path / "three"
    while parts:
        time.sleep(0.05 * chance.random())
        name = chance.choice(sorted(parts))
        if kills < 4 and list(journals.glob("images.partial*")):
            time.sleep(0.1)
            parts[name].kill()
            if parts[name].wait() != 0:
                kills += 1
                parts[name] = start("three", name)
                continue
        for name in sorted(parts):
            if (status := parts[name].poll()) is not None:
                assert status == 0
                del parts[name]
    assert kills >= 3
    assert tree(tmp_path / "one") == tree(tmp_path / "three")
