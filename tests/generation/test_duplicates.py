"""Near-duplicates against a comparison of every pair, and what keeps a fingerprint."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2ipal.generation.duplicates import NEAR_BITS, fingerprint
from t2ipal.generation.generate import generate
from t2ipal.generation.store import ImageRow, read_manifest
from t2ipal.generation.summary import Tally

ROW = ImageRow(
    "", "c", 0, "a dog", ("dog",), (), 0, 0, "noise", "1", {}, "images/x.png", "0", (), (), (), ""
)


def row(number: int, bits: np.ndarray | None) -> ImageRow:
    mark = "" if bits is None else np.packbits(bits).tobytes().hex()
    return replace(ROW, id=str(number), fingerprint=mark)


def family(seed: int) -> list[np.ndarray]:
    """Fingerprints [128]: some far from all others, some within a few bits of an earlier one."""
    rng = np.random.default_rng(seed)
    prints = [rng.integers(0, 2, 128).astype(bool) for _ in range(12)]
    for _ in range(60):
        copy = prints[rng.integers(len(prints))].copy()
        copy[rng.choice(128, rng.integers(0, 10), replace=False)] ^= True
        prints.append(copy)
    order = rng.permutation(len(prints))
    return [prints[i] for i in order]


@pytest.mark.parametrize("seed", range(8))
def test_pairs_are_those_of_a_comparison_with_every_earlier_one(seed: int) -> None:
    prints = family(seed)
    kept: list[int] = []
    expected = []
    for number, bits in enumerate(prints):
        near = [i for i in kept if (prints[i] != bits).sum() <= NEAR_BITS]
        if near:
            expected.append((near[0], number))
        else:
            kept.append(number)
    tally = Tally(row(number, bits) for number, bits in enumerate(prints))
    assert tally.near() == expected
    assert 10 < len(expected) < len(prints) - 10


def test_rows_without_a_fingerprint_repeat_nothing() -> None:
    bits = np.arange(128) % 3 == 0
    rows = [row(0, None), row(1, bits), row(2, None), row(3, bits)]
    assert Tally(rows).near() == [(0, 1)]  # of those that have one
    assert Tally().near() == Tally(rows[:1]).near() == Tally(rows[:2]).near() == []


def distance(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def test_a_picture_keeps_its_fingerprint_through_jpeg_and_size_but_not_mirrored() -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    image = small.resize((96, 96), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=60)
    mark = fingerprint(image)
    assert len(mark) == 32
    assert distance(mark, fingerprint(Image.open(encoded))) <= NEAR_BITS
    assert distance(mark, fingerprint(image.resize((64, 64)))) <= NEAR_BITS
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert distance(mark, fingerprint(mirrored)) > 30


def test_a_generator_that_repeats_itself_is_told_and_counted(
    tmp_path: Any, captions: Any, noise: Any
) -> None:
    class Stuck(noise):  # type: ignore[misc]
        def _one(self, seed: int) -> Any:
            return super()._one(seed % 3)

    summary = generate(captions, Stuck(), tmp_path, progress=False)
    rows = read_manifest(tmp_path)
    distinct = len({row.fingerprint for row in rows})
    assert summary.near == len(rows) - distinct > 0
    dogs = summary.classes["dog"]
    assert dogs.images == len(rows) and dogs.near == summary.near
    assert "near-duplicates" in "\n".join(summary.lines())
