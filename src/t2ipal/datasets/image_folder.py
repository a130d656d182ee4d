"""Images sorted into folders by class, as torchvision's ImageFolder has them.

    PHOTOS/dog/1.jpg
    PHOTOS/potted plant/summer/2.jpg

A folder says one class of an image. Whether it shows others too it does not say: by default they
count as absent, as is usual where such folders are evaluated, and as an average precision needs
absent images. Where the images may well show several classes, ``PHOTOS?others=unknown`` is the
honest reading, to train on; there is nothing to evaluate then.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t2ipal.datasets.image_files import IMAGE_SUFFIXES, find_images
from t2ipal.datasets.labelled_images import LabelledImages, class_lookup
from t2ipal.errors import UserError, nearest
from t2ipal.vocabulary import UNKNOWN, Vocabulary, plain

OTHERS = {"absent": 0, "unknown": UNKNOWN}


def is_image_folder(path: Path) -> bool:
    """Whether the folder has folders with images in them."""
    inner = [entry for entry in sorted(path.iterdir()) if _counts(entry)]
    return any(next(find_images((str(entry),)), None) is not None for entry in inner)


def read_image_folder(
    path: Path, vocabulary: Vocabulary, *, others: str = "absent"
) -> LabelledImages:
    """Read such a folder; a class without a folder is absent from (or unknown in) all images.

    Folders go by name, readable name or synonym of a class, letter case and underscores aside;
    those that start with a dot are left out.

    Args:
        others: what the classes are that an image's folder does not name: absent or unknown.

    Raises:
        UserError: a folder of no class, two folders of one class, or images beside the folders.
    """
    lookup = class_lookup(vocabulary, synonyms=True)
    files: list[Path] = []
    columns: list[int] = []
    folder_of: dict[int, str] = {}
    for entry in sorted(path.iterdir()):
        if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
            raise UserError(
                f"{entry}: lies in no class's folder; move it into one, or name a folder without "
                "loose images."
            )
        if not _counts(entry):
            continue
        images = list(find_images((str(entry),)))
        if not images:
            continue
        found = lookup.get(entry.name.casefold(), lookup.get(plain(entry.name).casefold()))
        if found is None:
            raise UserError(
                f"{entry}: unknown class {entry.name!r}{nearest(entry.name, vocabulary.names)}; "
                f"call the folder as a class of the vocabulary {vocabulary.title!r}."
            )
        if found in folder_of:
            raise UserError(
                f"{entry}: is about class {vocabulary.names[found]!r}, as the folder "
                f"{folder_of[found]!r} is; put them together."
            )
        folder_of[found] = entry.name
        files += images
        columns += [found] * len(images)
    targets = np.full((len(files), len(vocabulary)), OTHERS[others], dtype=np.int8)
    targets[np.arange(len(files)), columns] = 1
    return LabelledImages(str(path), tuple(files), targets, folder=path)


def _counts(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")
