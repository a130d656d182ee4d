"""COCO-format JSON: boxes around objects, read as classes present or absent in an image."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from t2ipal.datasets.labelled_images import Columns, LabelledImages
from t2ipal.errors import UserError, listed
from t2ipal.files.broken import Broken
from t2ipal.files.names import portable_path
from t2ipal.files.tables import read_json
from t2ipal.vocabulary import UNKNOWN, Vocabulary

_NEGATIVE = "neg_category_ids"
_LARGEST = 2**33  # bytes; those of tens of millions of boxes have some of them
_SAMPLES = 20  # images by which their folder is known


def read_coco_json(
    path: Path,
    vocabulary: Vocabulary,
    *,
    images: str | Path | None = None,
    source: str | None = None,
    broken: Broken | None = None,
) -> LabelledImages:
    """Read a COCO-format JSON: ``images``, ``annotations``, ``categories``.

    A class is present where an annotation (crowd or not) of a category says so. A category belongs
    to the class whose name, readable name or synonym it is, letter case aside; other categories are
    ignored, and a class without a category is unknown everywhere.

    Where images have ``neg_category_ids`` (LVIS, Gupta et al., CVPR 2019), nobody looked for the
    other categories: a class is absent where its category is among them, and else unknown.

    Args:
        images: the folder of the images; beside the file or in a folder near it if omitted.
        source: what a report calls the images; the path if omitted.
        broken: told of missing images, which are an error if omitted.

    Raises:
        UserError: broken or other JSON, an annotation of an unknown image or category, no category
            in the vocabulary, missing images.
    """
    content = _load_json(path)
    categories = _by_id(path, content["categories"], "category", "name")
    columns = Columns(dict.fromkeys(categories.values()), vocabulary, str(path), kind="categories")
    files = _by_id(path, [_with_file(row) for row in content["images"]], "image", "file_name")
    if not files:
        raise UserError(f"{path}: lists no image.")
    row_of = {identity: row for row, identity in enumerate(files)}
    column_of = {
        identity: columns.names.index(name) if name in columns.names else None
        for identity, name in categories.items()
    }
    labels = np.zeros((len(files), len(columns.names)), dtype=np.int8)
    federated = any(_NEGATIVE in row for row in content["images"])
    if federated:
        labels[:] = UNKNOWN
        for row, image in enumerate(content["images"]):
            absent = image.get(_NEGATIVE, [])
            if not isinstance(absent, list):
                raise UserError(f"{path}: {_NEGATIVE!r} of image {image['id']} must be a list.")
            for category in absent:
                category = str(category)
                if category not in column_of:
                    raise UserError(f"{path}: image {image['id']} has unknown category {category}.")
                if (column := column_of[category]) is not None:
                    labels[row, column] = 0
    for number, annotation in enumerate(content["annotations"], start=1):
        what = f"annotation {annotation.get('id', number)}"
        image_id = _get(path, annotation, "image_id", what)
        category_id = _get(path, annotation, "category_id", what)
        if image_id not in row_of:
            raise UserError(f"{path}: {what} is of unknown image id {image_id}.")
        if category_id not in column_of:
            raise UserError(f"{path}: {what} is of unknown category id {category_id}.")
        if (column := column_of[category_id]) is not None:
            labels[row_of[image_id], column] = 1
    names = [portable_path(name).as_posix() for name in files.values()]
    if twice := next((name for name, n in Counter(names).items() if n > 1), None):
        raise UserError(f"{path}: image {twice!r} is listed twice; keep one.")
    folder, note = _image_folder(path, names, Path(images) if images else None)
    targets = columns.targets(labels)
    notes = [*([note] if note else []), *columns.notes]
    if federated:
        known = int((targets >= 0).sum())
        notes.append(
            f"federated annotations: {known} of {targets.size} labels known, the others unknown"
        )
    found = LabelledImages(
        source or str(path), tuple(folder / name for name in names), targets, columns.ignored,
        folder, tuple(notes),
    )  # fmt: skip
    missing = [file for file in found.files if not file.is_file()]
    return found.without(
        missing,
        f"{path}: {len(missing)} of {len(found)} images are missing in {folder}, the first is "
        f"{missing[0].name if missing else ''!r}; add them or name their folder with --data-folder "
        "(--real-folder for real training images).",
        broken,
    )


def _load_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    content = read_json(path, _LARGEST)
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(
                f"{path}: no list of objects {key!r}; a COCO-format JSON has the lists images, "
                "annotations and categories."
            )
    lists: dict[str, list[dict[str, Any]]] = content
    return lists


def _with_file(row: dict[str, Any]) -> dict[str, Any]:
    """An image of LVIS is named by its address alone: the last two parts, split and file."""
    url = row.get("coco_url")
    if "file_name" in row or not isinstance(url, str):
        return row
    return {**row, "file_name": "/".join(url.split("/")[-2:])}


def _by_id(path: Path, rows: list[dict[str, Any]], kind: str, key: str) -> dict[str, str]:
    """Id -> name of images or categories."""
    found: dict[Any, str] = {}
    for number, row in enumerate(rows, start=1):
        identity = _get(path, row, "id", f"{kind} {number}")
        if identity in found:
            raise UserError(f"{path}: {kind} id {identity} is listed twice; keep one.")
        found[identity] = _get(path, row, key, f"{kind} {number}")
    return found


def _get(path: Path, row: dict[str, Any], key: str, what: str) -> str:
    """A name or an id, as text: some tools write ids as numbers here and as text there."""
    if key not in row:
        raise UserError(f"{path}: {what} has no {key!r}.")
    value = row[key]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | str):
        raise UserError(f"{path}: {key!r} of {what} must be a number or text.")
    return str(value)


def _image_folder(path: Path, names: list[str], given: Path | None) -> tuple[Path, str]:
    """The folder of the images: beside the JSON, or near it; that of its split if several fit.

    With it what to say, if it was guessed.

    Raises:
        UserError: no folder holds one of them, or several fit equally well.
    """
    if given:
        if not given.is_dir():
            raise UserError(
                f"{given}: no such folder; --data-folder names the folder of the images."
            )
        return given, ""
    bases = (path.parent, path.parent.parent)
    levels = [[base] for base in bases] + [
        sorted(entry for entry in base.iterdir() if entry.is_dir()) for base in bases
    ]
    samples = names[:: max(1, len(names) // _SAMPLES)]
    folders: list[Path] = []
    most = 0
    for near in levels:  # those that hold most of them; of equals the nearest
        found = {os.path.realpath(folder): folder for folder in near}.values()
        counts = [sum((folder / name).is_file() for name in samples) for folder in found]
        if max(counts, default=0) > most:
            most = max(counts)
            folders = [folder for folder, n in zip(found, counts, strict=True) if n == most]
    if len(folders) > 1:
        named = [folder for folder in folders if folder.name.casefold() in path.stem.casefold()]
        if len(named) != 1:
            raise UserError(
                f"{path}: its images may be those of {listed([str(f) for f in folders])}; name the "
                "folder with --data-folder (--real-folder for real training images)."
            )
        folders = named
    if folders:
        guessed = f"images of {folders[0]} (guessed; --data-folder names another)"
        return folders[0], "" if folders[0] == path.parent else guessed
    raise UserError(
        f"{path}: its images, such as {names[0]!r}, lie neither beside it nor in a neighbouring "
        "folder; name the folder of the images with --data-folder "
        "(--real-folder for real training images)."
    )
