"""Few-shot: a small labelled set in which every class has at least K images that show it.

An image with several labels counts for each of them, so exactly K images per class are seldom
possible: classes that come along with others end above K, and the set is smaller than K times the
number of classes. Classes are served from the rarest to the most frequent, so that the images of
rare classes are counted for the others before more are taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError
from t2ipal.files import sha256_text


def choose_shots(
    images: LabelledImages, classes: Sequence[str], shots: int, seed: int
) -> NDArray[np.intp]:
    """Rows of the images to take, in ascending order; an unknown label is not an example.

    The choice depends on the seed and on names and labels of the images, not on their order.

    Args:
        images: labelled images with targets [N, C].
        classes: the C class names.
        shots: K, at least 1.

    Raises:
        UserError: a class has fewer than ``shots`` images that show it.
        ValueError: ``shots`` is below 1.

    Examples:
        >>> from pathlib import Path
        >>> files = (Path("a.jpg"), Path("b.jpg"), Path("c.jpg"))
        >>> targets = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.int8)
        >>> images = LabelledImages("three photos", files, targets)
        >>> choose_shots(images, ["cat", "dog"], shots=1, seed=0).tolist()
        [0, 2]
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, not {shots}")
    present = images.targets == 1  # [N, C]
    counts = present.sum(axis=0)  # [C]
    _refuse_rare_classes(images, classes, counts, shots)
    names = images.names
    shuffled = sorted(
        range(len(images)), key=lambda row: sha256_text("shots", str(seed), names[row])
    )
    order = np.array(shuffled)
    taken = np.zeros(len(images), dtype=bool)
    # The name decides between classes equally rare: their order in the vocabulary must not.
    for index in sorted(range(len(classes)), key=lambda i: (counts[i], classes[i])):
        lacking = shots - int(present[taken, index].sum())
        if lacking > 0:
            candidates = order[present[order, index] & ~taken[order]]
            taken[candidates[:lacking]] = True
    return np.flatnonzero(taken)


def _refuse_rare_classes(
    images: LabelledImages, classes: Sequence[str], counts: NDArray[np.intp], shots: int
) -> None:
    """Raise the UserError that names the class with the fewest images, if that is too few."""
    rarest = int(counts.argmin())
    fewest = int(counts[rarest])
    if fewest >= shots:
        return
    others = int((counts < shots).sum()) - 1
    more = f" (and {others} more classes have too few)" if others else ""
    lower = f"lower shots to {fewest}, " if fewest else ""
    raise UserError(
        f"{images.source}: class {classes[rarest]!r} is known to be in {fewest} of the "
        f"{len(images)} images, fewer than the {shots} shots asked for{more}; {lower}add labelled "
        "images of it, or omit shots to take every image."
    )
