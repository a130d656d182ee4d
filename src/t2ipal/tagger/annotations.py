"""Tags as the files that annotation tools read: COCO, FiftyOne, Label Studio and CVAT.

Tags are labels of whole images. COCO has none, so each tag is an annotation whose box is the image.
Every format but CVAT's carries the probabilities.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from t2ipal.files import atomic_path, read_jsonl
from t2ipal.files.folders import common_folder
from t2ipal.files.names import from_readable
from t2ipal.files.pictures import picture_size

Row = dict[str, Any]
"""``image``, ``tags`` and ``scores`` of an image, as :meth:`t2ipal.tagger.tags.Tags.to_json`."""


def export_tags(source: Path, kind: str, names: Sequence[str]) -> Path:
    """Write the tags of a .jsonl file beside it in another format.

    Args:
        source: what ``t2ipal predict --out`` wrote.
        kind: a key of :data:`FORMATS`.
        names: the C classes.

    Returns:
        The file: ``tags.jsonl`` becomes ``tags.coco.json``.

    Raises:
        UserError: the file cannot be read, or an image is gone.
    """
    suffix, write = FORMATS[kind]
    rows = [row | {"image": from_readable(row["image"])} for _, row in read_jsonl(source)]
    out = source.with_name(f"{source.stem}.{kind}{suffix}")
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(write(rows, names))
    return out


def _relative(rows: Sequence[Row]) -> list[str]:
    """Each image's path below the folder that holds all of them."""
    start = common_folder([row["image"] for row in rows]) if rows else Path(".")
    return [Path(os.path.relpath(row["image"], start)).as_posix() for row in rows]


def _coco(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    found: Row = {
        "info": {"description": "labels of whole images: every box is the image"},
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, start=1)],
        "images": [],
        "annotations": [],
    }
    for number, (row, name) in enumerate(zip(rows, _relative(rows), strict=True), start=1):
        width, height = picture_size(row["image"])
        found["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        found["annotations"] += [
            {
                "id": len(found["annotations"]) + place,
                "image_id": number,
                "category_id": names.index(tag) + 1,
                "bbox": [0, 0, width, height],
                "area": width * height,
                "segmentation": [],
                "iscrowd": 0,
                "score": row["scores"][tag],
            }
            for place, tag in enumerate(row["tags"], start=1)
        ]
    yield json.dumps(found, ensure_ascii=False)


def _fiftyone(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """FiftyOneImageClassificationDataset; images are named by their paths, so they stay there."""
    labels = {
        os.path.abspath(row["image"]): [
            {"label": names.index(tag), "confidence": row["scores"][tag]} for tag in row["tags"]
        ]
        for row in rows
    }
    yield json.dumps({"classes": list(names), "labels": labels}, ensure_ascii=False)


def _label_studio(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """Tasks with pre-annotations, for ``Choices`` called ``tags`` of an ``Image`` called ``image``.

    Images are served from local storage whose document root is ``/``.
    """
    tasks = []
    result = {"from_name": "tags", "to_name": "image", "type": "choices"}
    for row in rows:
        path = quote(os.path.abspath(row["image"]).lstrip("/"))
        said = {
            "model_version": "t2ipal",
            "score": max((row["scores"][tag] for tag in row["tags"]), default=0.0),
            "result": [result | {"value": {"choices": row["tags"]}}],
        }
        tasks.append({"data": {"image": f"/data/local-files/?d={path}"}, "predictions": [said]})
    yield json.dumps(tasks, ensure_ascii=False)


def _cvat(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """CVAT for images 1.1."""
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta>'
    yield f"<task><size>{len(rows)}</size><mode>annotation</mode><labels>"
    for name in names:
        yield f"<label><name>{escape(name)}</name><type>tag</type><attributes></attributes></label>"
    yield "</labels></task></meta>\n"
    for number, (row, name) in enumerate(zip(rows, _relative(rows), strict=True)):
        width, height = picture_size(row["image"])
        yield f'<image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">'
        for tag in row["tags"]:
            yield f'<tag label={quoteattr(tag)} source="auto"></tag>'
        yield "</image>\n"
    yield "</annotations>\n"


_Writer = Callable[[Sequence[Row], Sequence[str]], Iterable[str]]

FORMATS: dict[str, tuple[str, _Writer]] = {
    "coco": (".json", _coco),
    "fiftyone": (".json", _fiftyone),
    "label-studio": (".json", _label_studio),
    "cvat": (".xml", _cvat),
}
"""Format -> suffix of its file, and what writes it."""
