"""COCO-format JSON: objects drawn as boxes, read as classes present or absent in an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from t2ipal.datasets.labelled_images import LabelledImages, class_lookup
from t2ipal.errors import UserError
from t2ipal.files import read_lines
from t2ipal.vocabulary import UNKNOWN, Vocabulary


def read_coco_json(
    path: Path, vocabulary: Vocabulary, *, images: str | Path | None = None
) -> LabelledImages:
    """Read a COCO-format JSON: ``images``, ``annotations``, ``categories``.

    A class is present where an annotation (crowd or not) of a category says so. A category belongs
    to the class whose name, readable name or synonym it is, letter case aside; other categories are
    ignored, and a class without a category is unknown everywhere.

    Raises:
        UserError: broken or other JSON, an annotation of an unknown image or category, no category
            in the vocabulary, missing images.
    """
    content = _load_json(path)
    lookup = class_lookup(vocabulary, synonyms=True)
    class_of: dict[Any, int | None] = {}
    ignored = []
    for number, category in enumerate(content["categories"], start=1):
        name = str(_get(path, category, "name", f"category {number}"))
        class_of[_get(path, category, "id", f"category {number}")] = lookup.get(name.casefold())
        if name.casefold() not in lookup:
            ignored.append(name)
    mapped = sorted({index for index in class_of.values() if index is not None})
    if not mapped:
        raise UserError(
            f"{path}: none of its {len(class_of)} categories is a class of the vocabulary "
            f"{vocabulary.title!r}; give the instances file (not captions), or other classes."
        )
    row_of: dict[Any, int] = {}
    names: list[str] = []
    for number, image in enumerate(content["images"], start=1):
        identity = _get(path, image, "id", f"image {number}")
        if identity in row_of:
            raise UserError(f"{path}: image id {identity} is listed twice; keep one.")
        row_of[identity] = len(names)
        names.append(str(_get(path, image, "file_name", f"image {number}")))
    if not names:
        raise UserError(f"{path}: lists no image.")
    targets = np.full((len(names), len(vocabulary)), UNKNOWN, dtype=np.int8)  # [N, C]
    targets[:, mapped] = 0
    for number, annotation in enumerate(content["annotations"], start=1):
        what = f"annotation {annotation.get('id', number)}"
        row = row_of.get(_get(path, annotation, "image_id", what))
        category_id = _get(path, annotation, "category_id", what)
        if row is None:
            raise UserError(f"{path}: {what} is of unknown image id {annotation['image_id']}.")
        if category_id not in class_of:
            raise UserError(f"{path}: {what} is of unknown category id {category_id}.")
        index = class_of[category_id]
        if index is not None:
            targets[row, index] = 1
    folder = _image_folder(path, names, Path(images) if images else None)
    files = tuple(folder / name for name in names)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(files)} images are missing in {folder}, "
            f"the first is {missing[0].name!r}; add them or name their folder with --images "
            "(--real-folder for real training images)."
        )
    return LabelledImages(str(path), files, targets, tuple(ignored), folder)


def _load_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    text = "\n".join(line for _, line in read_lines(path))
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: broken JSON ({error.msg}, column {error.colno}); "
            "is the file truncated? Fetch it again."
        ) from None
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(
                f"{path}: no list of objects {key!r}; a COCO-format JSON has the lists images, "
                "annotations and categories."
            )
    return content


def _get(path: Path, row: dict[str, Any], key: str, what: str) -> Any:
    if key not in row:
        raise UserError(f"{path}: {what} has no {key!r}.")
    return row[key]


def _image_folder(path: Path, names: list[str], given: Path | None) -> Path:
    """The folder that holds the first image: beside the JSON, or in a folder near it."""
    if given:
        if not given.is_dir():
            raise UserError(f"{given}: no such folder; --images names the folder of the images.")
        return given
    near = [path.parent]
    for base in (path.parent, path.parent.parent):
        near += sorted(entry for entry in base.iterdir() if entry.is_dir())
    for folder in near:
        if (folder / names[0]).is_file():
            return folder
    raise UserError(
        f"{path}: its first image {names[0]!r} lies neither beside it nor in a neighbouring "
        "folder; name the folder of the images with --images "
        "(--real-folder for real training images)."
    )
