"""Images sorted into folders by class, as torchvision's ImageFolder has them.

    PHOTOS/dog/1.jpg
    PHOTOS/potted plant/summer/2.jpg

A folder names one class of an image and does not say whether the image shows others too. By default
they count as absent, as is usual when such folders are evaluated; an average precision needs absent
images. Where images may well show several classes, ``PHOTOS?others=unknown`` is for training; there
is nothing to evaluate then.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t2ipal.datasets.labelled_images import ClassNames, LabelledImages
from t2ipal.errors import UserError, nearest
from t2ipal.files.folders import find_images, hidden
from t2ipal.files.pictures import has_picture_suffix
from t2ipal.vocabulary import UNKNOWN, Vocabulary

OTHERS = {"absent": 0, "unknown": UNKNOWN}


def read_image_folder(
    path: Path, vocabulary: Vocabulary, *, others: str = "absent"
) -> LabelledImages | None:
    """Read such a folder; None if no folder in it holds an image.

    A class without a folder is absent from (or unknown in) all images.

    Folders go by name, readable name or synonym of a class, letter case and underscores aside;
    those that start with a dot are left out.

    Args:
        others: the label of classes that an image's folder does not name: absent or unknown.

    Raises:
        UserError: a folder of no class, two folders of one class, or images beside the folders.
    """
    folders = [
        entry
        for entry in sorted(path.iterdir())
        if entry.is_dir()
        and not hidden(entry.name)
        and any(True for _ in find_images((str(entry),)))
    ]
    if not folders:
        return None
    loose = (e for e in sorted(path.iterdir()) if has_picture_suffix(e.name))
    for entry in filter(Path.is_file, loose):
        raise UserError(
            f"{entry}: lies in no class's folder; move it into one, or name a folder without "
            "loose images."
        )
    known = ClassNames(vocabulary)
    files: list[Path] = []
    columns: list[tuple[int, ...]] = []
    folder_of: dict[int, str] = {}
    for entry in folders:
        found = known.find(entry.name)
        if not found:
            raise UserError(
                f"{entry}: unknown class {entry.name!r}{nearest(entry.name, vocabulary.names)}; "
                f"rename the folder to a class of the vocabulary {vocabulary.title!r}."
            )
        if found[0] in folder_of:
            raise UserError(
                f"{entry}: is about class {vocabulary.names[found[0]]!r}, as the folder "
                f"{folder_of[found[0]]!r} is; merge them."
            )
        folder_of[found[0]] = entry.name
        images = list(find_images((str(entry),)))
        files += images
        columns += [found] * len(images)
    targets = np.full((len(files), len(vocabulary)), OTHERS[others], dtype=np.int8)
    for row, classes in enumerate(columns):
        targets[row, list(classes)] = 1
    return LabelledImages(str(path), tuple(files), targets, folder=path)
