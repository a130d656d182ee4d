"""Images sorted into folders by class, as torchvision's ImageFolder has them.

    PHOTOS/dog/1.jpg
    PHOTOS/potted plant/summer/2.jpg

A folder names one class of an image and does not say whether the image shows others too. By default
they count as absent, as is usual when such folders are evaluated; an average precision needs absent
images. Where images may well show several classes, ``PHOTOS?others=unknown`` is for training; there
is nothing to evaluate then.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from t2ipal.datasets.labelled_images import ClassNames, LabelledImages
from t2ipal.errors import UserError, nearest
from t2ipal.files.folders import LeftOut, find_images, hidden
from t2ipal.files.pictures import has_picture_suffix
from t2ipal.vocabulary import UNKNOWN, Vocabulary

OTHERS = {"absent": 0, "unknown": UNKNOWN}


def read_image_folder(
    path: Path, vocabulary: Vocabulary, *, others: str = "absent"
) -> LabelledImages | None:
    """Read such a folder; None if no folder in it holds an image.

    A class without a folder is absent from (or unknown in) all images. An image that lies in
    several folders, by links, shows several classes.

    Folders go by name, readable name or synonym of a class, letter case and underscores aside;
    those that start with a dot are left out.

    Args:
        others: the label of classes that an image's folder does not name: absent or unknown.

    Raises:
        UserError: a folder of no class, two folders of one class, or images beside the folders.
    """
    left_out = LeftOut()
    inside = {
        entry: list(find_images([entry], left_out))
        for entry in sorted(path.iterdir())
        if entry.is_dir() and not hidden(entry.name)
    }
    if not any(inside.values()):
        if str(left_out):
            raise UserError(f"{path}: no image in its folders ({left_out}); check the path.")
        return None
    loose = (e for e in sorted(path.iterdir()) if has_picture_suffix(e.name))
    for entry in filter(Path.is_file, loose):
        raise UserError(
            f"{entry}: lies in no class's folder; move it into one, or name a folder without "
            "loose images."
        )
    known = ClassNames(vocabulary)
    files: dict[str, Path] = {}  # by real path: one that lies in two folders shows both classes
    columns: dict[str, list[int]] = {}
    folder_of: dict[int, str] = {}
    for entry, images in inside.items():
        if not images:
            left_out.add("folders without an image", entry.name)
            continue
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
        for image in images:
            real = os.path.realpath(image)
            files.setdefault(real, image)
            columns.setdefault(real, []).extend(found)
    targets = np.full((len(files), len(vocabulary)), OTHERS[others], dtype=np.int8)
    for row, classes in enumerate(columns.values()):
        targets[row, classes] = 1
    notes = (str(left_out),) if str(left_out) else ()
    return LabelledImages(str(path), tuple(files.values()), targets, (), path, notes)
