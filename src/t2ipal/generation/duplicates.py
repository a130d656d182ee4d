"""Which generated images are nearly the same picture, found by fingerprints of 128 bits.

The fingerprint is a difference hash: whether the picture, shrunk to 9 x 8 and to 8 x 9 cells, gets
lighter from each cell to the next, to the right and downwards (N. Krawetz, "Kind of like that",
2013). On 50 photos of MS-COCO at 512 pixels, JPEG at quality 50 moved at most 2 bits, at quality 10
at most 6, half the size at most 4; the nearest two different photos were 34 bits apart.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from PIL import Image

NEAR_BITS = 7
"""Pictures whose fingerprints differ in at most this many bits are near-duplicates."""

_BANDS = 9  # two fingerprints that differ in 7 bits agree in two bands at least


def fingerprint(image: Image.Image) -> str:
    """The difference hash of a picture, 32 hex digits.

    Examples:
        >>> image = Image.linear_gradient("L")
        >>> fingerprint(image) == fingerprint(image.resize((99, 99)))
        True
    """
    grey = image.convert("L")
    across = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)  # [8, 9]
    down = np.asarray(grey.resize((8, 9), Image.Resampling.BOX)).astype(np.int16)  # [9, 8]
    bits = np.concatenate([np.diff(across, axis=1).ravel() > 0, np.diff(down, axis=0).ravel() > 0])
    return np.packbits(bits).tobytes().hex()


def near_duplicates(prints: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of an image and a later one that nearly repeats it, at most one pair per later image.

    The earlier one is itself no near-duplicate of an image before it, so that every pair names a
    picture to keep and one that adds nothing.

    Args:
        prints: fingerprints of N images, [N, 16] uint8.
    """
    words = np.ascontiguousarray(prints).view(np.uint64)  # [N, 2]
    order = np.lexsort(words.T)  # of equal ones the earliest image first
    new = np.ones(len(words), dtype=bool)
    new[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    first = order[new]
    pairs = np.sort(
        first[_close_pairs(words[first])], axis=1
    )  # [pairs, 2], the earlier image first
    kept = np.arange(len(words))  # image -> the one that stands for it
    for near, far in pairs[np.lexsort(pairs.T)].tolist():  # by the later image
        if kept[near] == near and kept[far] == far:
            kept[far] = near
    kept[order] = kept[first[np.cumsum(new) - 1]]
    again = np.flatnonzero(kept != np.arange(len(words)))
    return list(zip(kept[again].tolist(), again.tolist(), strict=True))


def _close_pairs(words: np.ndarray) -> np.ndarray:
    """The pairs of different fingerprints that differ in at most ``NEAR_BITS`` bits, [pairs, 2].

    Only those are compared that agree in two bands of 14 or 15 bits. The bits of a band lie apart:
    in a picture's plain background all bits are the same.

    Args:
        words: the fingerprints, [N, 2] uint64.
    """
    bands = [np.zeros(len(words), np.uint16) for _ in range(_BANDS)]
    for bit in range(128):
        bands[bit % _BANDS] <<= 1
        bands[bit % _BANDS] |= (words[:, bit // 64] >> bit % 64 & 1).astype(np.uint16)
    numbers = np.arange(len(words), dtype=np.uint64)
    found = np.empty(0, np.uint64)  # pairs, each as one number
    for one, other in combinations(bands, 2):
        table = numbers | one.astype(np.uint64) << 47 | other.astype(np.uint64) << 32
        table.sort()
        key, number = table >> 32, (table & 0xFFFFFFFF).astype(np.int64)
        at, pairs = np.arange(len(table)), [found]
        for step in range(1, len(table)):
            at = at[: np.searchsorted(at, len(table) - step)]
            at = at[key[at] == key[at + step]]
            if not len(at):
                break
            a, b = number[at], number[at + step]
            near = np.bitwise_count(words[a] ^ words[b]).sum(axis=1) <= NEAR_BITS
            pairs.append((a[near] << 32 | b[near]).astype(np.uint64))
        found = np.unique(np.concatenate(pairs))
    return np.stack([found >> 32, found & 0xFFFFFFFF], axis=1).astype(np.int64)
