"""COCO-format JSON: boxes around objects, read as classes present or absent in an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.official import Columns, wanted_file
from t2ipal.errors import UserError
from t2ipal.files import read_lines
from t2ipal.vocabulary import Vocabulary

COCO2014_IMAGES = {"val": 40_504, "train": 82_783}
_ARCHIVES = "unpack annotations_trainval2014.zip, val2014.zip and train2014.zip of cocodataset.org"


def read_coco_json(
    path: Path,
    vocabulary: Vocabulary,
    *,
    images: str | Path | None = None,
    source: str | None = None,
) -> LabelledImages:
    """Read a COCO-format JSON: ``images``, ``annotations``, ``categories``.

    A class is present where an annotation (crowd or not) of a category says so. A category belongs
    to the class whose name, readable name or synonym it is, letter case aside; other categories are
    ignored, and a class without a category is unknown everywhere.

    Args:
        images: the folder of the images; beside the file or in a folder near it if omitted.
        source: what a report calls the images; the path if omitted.

    Raises:
        UserError: broken or other JSON, an annotation of an unknown image or category, no category
            in the vocabulary, missing images.
    """
    content = _load_json(path)
    categories = _by_id(path, content["categories"], "category", "name")
    columns = Columns(dict.fromkeys(categories.values()), vocabulary, str(path), kind="categories")
    files = _by_id(path, content["images"], "image", "file_name")
    if not files:
        raise UserError(f"{path}: lists no image.")
    row_of = {identity: row for row, identity in enumerate(files)}
    column_of = {
        identity: columns.names.index(name) if name in columns.names else None
        for identity, name in categories.items()
    }
    labels = np.zeros((len(files), len(columns.names)), dtype=np.int8)
    for number, annotation in enumerate(content["annotations"], start=1):
        what = f"annotation {annotation.get('id', number)}"
        image = _get(path, annotation, "image_id", what)
        category = _get(path, annotation, "category_id", what)
        if image not in row_of:
            raise UserError(f"{path}: {what} is of unknown image id {image}.")
        if category not in column_of:
            raise UserError(f"{path}: {what} is of unknown category id {category}.")
        if (column := column_of[category]) is not None:
            labels[row_of[image], column] = 1
    names = list(files.values())
    folder = _image_folder(path, names, Path(images) if images else None)
    paths = tuple(folder / name for name in names)
    missing = [file for file in paths if not file.is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(paths)} images are missing in {folder}, "
            f"the first is {missing[0].name!r}; add them or name their folder with --data-folder "
            "(--real-folder for real training images)."
        )
    targets = columns.targets(labels)
    return LabelledImages(source or str(path), paths, targets, columns.ignored, folder)


def read_coco2014(folder: Path, vocabulary: Vocabulary, *, split: str = "val") -> LabelledImages:
    """Read a split of MS-COCO 2014 as its archives unpack (cocodataset.org).

        COCO/annotations/instances_val2014.json
        COCO/val2014/COCO_val2014_000000000042.jpg

    The usual test set is val2014 with all its 40,504 images, those without an object included.

    Args:
        folder: holds ``annotations`` and ``val2014``.
        split: val or train.

    Raises:
        UserError: another folder, a missing or broken file, a missing image; it is named.
    """
    path = wanted_file(folder / "annotations" / f"instances_{split}2014.json", _ARCHIVES)
    images = folder / f"{split}2014"
    return read_coco_json(path, vocabulary, images=images, source=f"MS-COCO 2014 {split}")


def _load_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    text = "\n".join(line for _, line in read_lines(path))
    try:
        content: Any = json.loads(text)
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
    lists: dict[str, list[dict[str, Any]]] = content
    return lists


def _by_id(path: Path, rows: list[dict[str, Any]], kind: str, key: str) -> dict[Any, str]:
    """Id -> name of images or categories."""
    found: dict[Any, str] = {}
    for number, row in enumerate(rows, start=1):
        identity = _get(path, row, "id", f"{kind} {number}")
        if identity in found:
            raise UserError(f"{path}: {kind} id {identity} is listed twice; keep one.")
        found[identity] = str(_get(path, row, key, f"{kind} {number}"))
    return found


def _get(path: Path, row: dict[str, Any], key: str, what: str) -> Any:
    if key not in row:
        raise UserError(f"{path}: {what} has no {key!r}.")
    if not isinstance(row[key], int | str):
        raise UserError(f"{path}: {key!r} of {what} must be a number or text.")
    return row[key]


def _image_folder(path: Path, names: list[str], given: Path | None) -> Path:
    """The folder that holds the first image: beside the JSON, or in a folder near it."""
    if given:
        if not given.is_dir():
            raise UserError(
                f"{given}: no such folder; --data-folder names the folder of the images."
            )
        return given
    near = [path.parent]
    for base in (path.parent, path.parent.parent):
        near += sorted(entry for entry in base.iterdir() if entry.is_dir())
    for folder in near:
        if (folder / names[0]).is_file():
            return folder
    raise UserError(
        f"{path}: its first image {names[0]!r} lies neither beside it nor in a neighbouring "
        "folder; name the folder of the images with --data-folder "
        "(--real-folder for real training images)."
    )
