"""Which generated images are nearly the same picture, found by fingerprints of 128 bits.

The fingerprint is a difference hash: whether the picture, shrunk to 9 x 8 and to 8 x 9 cells, gets
lighter from each cell to the next, to the right and downwards (N. Krawetz, "Kind of like that",
2013). On 50 photos of MS-COCO at 512 pixels, JPEG at quality 50 moved at most 2 bits, at quality 10
at most 6, half the size at most 4; the nearest two different photos were 34 bits apart.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

NEAR_BITS = 7
"""Pictures whose fingerprints differ in at most this many bits are near-duplicates."""

_BANDS = 8  # of 16 bits: two fingerprints that differ in 7 bits agree in one band at least


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
    if not len(prints):
        return []
    distinct, first, which = np.unique(prints, axis=0, return_index=True, return_inverse=True)
    close: dict[int, set[int]] = {}  # earliest image of a fingerprint -> those of its neighbours
    for a, b in _close_pairs(distinct):
        near, far = sorted((int(first[a]), int(first[b])))
        close.setdefault(far, set()).add(near)
    kept = np.arange(len(prints))  # earliest image of a fingerprint -> the one that stands for it
    for far in sorted(close):
        kept[far] = min((near for near in close[far] if kept[near] == near), default=far)
    stands = kept[first[which.reshape(-1)]]
    again = np.flatnonzero(stands != np.arange(len(prints)))
    return list(zip(stands[again].tolist(), again.tolist(), strict=True))


def _close_pairs(prints: np.ndarray) -> set[tuple[int, int]]:
    """All pairs of different fingerprints [N, 16] uint8 that differ in at most ``NEAR_BITS`` bits.

    Only those are compared that agree in one of the bands.
    """
    found: set[tuple[int, int]] = set()
    words = np.ascontiguousarray(prints).view(np.uint64)  # [N, 2]
    bands = np.ascontiguousarray(prints).view(np.uint16)  # [N, 8]
    for band in range(_BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        ordered = bands[order, band]
        for step in range(1, len(order)):
            a, b = order[:-step], order[step:]
            agree = ordered[:-step] == ordered[step:]
            if not agree.any():
                break
            a, b = a[agree], b[agree]
            distance = np.bitwise_count(words[a] ^ words[b]).sum(axis=1)
            near = distance <= NEAR_BITS
            found.update(zip(a[near].tolist(), b[near].tolist(), strict=True))
    return found
