"""Images with captions that were made elsewhere, one after the other.

A folder of images with a ``metadata.jsonl`` or ``metadata.csv`` (Hugging Face's ImageFolder:
``file_name`` and ``text`` or ``caption``) or a ``.txt`` beside each image; webdataset shards
(``.tar`` files whose members of one key are an image and a ``.txt`` or ``.json``); or, as
``hf:NAME``, a data set of Hugging Face's library.
"""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from t2ipal.errors import UserError
from t2ipal.files import read_jsonl
from t2ipal.files.folders import find_images
from t2ipal.files.pictures import has_picture_suffix, load_image

CAPTION_KEYS = ("text", "caption")
HUB = "hf:"


@dataclass(frozen=True)
class Sample:
    """An image and its caption; ``where`` names it in messages."""

    key: str
    caption: str
    where: str
    data: Path | bytes

    def image(self) -> Image.Image:
        """The picture, RGB.

        Raises:
            UserError: it cannot be read.
        """
        if isinstance(self.data, Path):
            return load_image(self.data)
        return load_image(self.where, self.data)


def read_samples(source: str | Path) -> Iterator[Sample]:
    """The images of a folder or of webdataset shards in the order of names, or those of ``hf:NAME``
    in its own order, with their captions.

    Raises:
        UserError: there is no image, a caption is missing, or a file is broken; it is named.
    """
    if str(source).startswith(HUB):
        from t2ipal.generation.hub_dataset import dataset_samples

        yield from dataset_samples(str(source).removeprefix(HUB))
        return
    source = Path(source)
    tars = [source] if source.suffix == ".tar" else sorted(source.glob("*.tar"))
    if source.suffix == ".tar" and not source.is_file():
        raise UserError(f"{source}: there is no such file; check the path.")
    if tars:
        for path in tars:
            yield from _tar_samples(path)
    elif source.is_dir():
        yield from _folder_samples(source)
    else:
        raise UserError(f"{source}: neither a folder of images nor a .tar; check the path.")


def _folder_samples(folder: Path) -> Iterator[Sample]:
    listed = list(_metadata(folder))
    if not listed:
        images = list(find_images((str(folder),)))
        if not images:
            raise UserError(f"{folder}: no image in this folder; check the path.")
        for path in images:
            text = path.with_suffix(".txt")
            if not text.is_file():
                raise UserError(
                    f"{path}: has no caption: write {text.name} beside it, or a metadata.jsonl "
                    "with file_name and text for all."
                )
            listed.append((str(text), path.relative_to(folder).as_posix(), _text(text)))
    for where, name, caption in listed:
        path = folder / name
        if path.resolve().is_relative_to(folder.resolve()):
            yield Sample(name, caption, f"{where}: {name}", path)
        else:
            raise UserError(f"{where}: {name} lies outside the folder; refused.")


def _metadata(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(where it says so, file name, caption) of a metadata file, where there is one."""
    rows: Iterable[tuple[int, dict[str, Any]]] = ()
    path = folder / "metadata.jsonl"
    if path.exists():
        rows = read_jsonl(path)
    elif (path := folder / "metadata.csv").exists():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [(number, row) for number, row in enumerate(csv.DictReader(stream), start=2)]
    for number, row in rows:
        caption = next((row[key] for key in CAPTION_KEYS if row.get(key)), None)
        if not isinstance(row.get("file_name"), str) or not isinstance(caption, str):
            raise UserError(f"{path}:{number}: needs file_name and text (or caption), both texts.")
        yield f"{path}:{number}", row["file_name"], caption


def _tar_samples(path: Path) -> Iterator[Sample]:
    """Samples of one shard: neighbours whose names agree up to the first dot."""
    try:
        with tarfile.open(path) as tar:
            key, parts = "", dict[str, bytes]()
            for member in tar:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                stem, _, suffix = name.name.partition(".")
                here = (name.parent / stem).as_posix()
                if here != key and parts:
                    yield _sample(path, key, parts)
                    parts = {}
                key = here
                stream = tar.extractfile(member)
                assert stream is not None, "it is a file"
                parts["." + suffix.lower()] = stream.read()
            if parts:
                yield _sample(path, key, parts)
    except tarfile.TarError as error:
        raise UserError(f"{path}: is no whole tar file ({error}); fetch it again.") from None


def _sample(path: Path, key: str, parts: dict[str, bytes]) -> Sample:
    where = f"{path}: {key}"
    image = next((data for suffix, data in parts.items() if has_picture_suffix("x" + suffix)), None)
    if image is None:
        raise UserError(f"{where}: has no image, only {', '.join(sorted(parts))}.")
    try:
        if ".txt" in parts:
            return Sample(key, parts[".txt"].decode().strip(), where, image)
        row = json.loads(parts.get(".json", b"{}"))
        caption = next(row[name] for name in (*CAPTION_KEYS, "prompt") if row.get(name))
    except (ValueError, RecursionError, AttributeError, StopIteration):
        raise UserError(f"{where}: has no caption: a .txt, or a .json with text.") from None
    return Sample(key, str(caption), where, image)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the file as UTF-8.") from None
