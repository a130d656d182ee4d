"""Images made elsewhere come in, generated sets go out.

In: a folder of images with a ``metadata.jsonl`` or ``metadata.csv`` (Hugging Face's ImageFolder:
``file_name`` and ``text`` or ``caption``) or a ``.txt`` beside each image; or webdataset shards
(``.tar`` files whose members of one key are an image and a ``.txt`` or ``.json``). Out: webdataset
shards, each sample an image, its caption and its row of the manifest.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from t2ipal.captions.labelled import LabelledCaption, label_captions
from t2ipal.captions.sources import Caption
from t2ipal.clip.pictures import load_image
from t2ipal.errors import UserError
from t2ipal.files import atomic_path, read_jsonl, to_json_line
from t2ipal.image_files import IMAGE_SUFFIXES, find_images
from t2ipal.synthesis.duplicates import fingerprint
from t2ipal.synthesis.store import ImageRow, ImageStore, image_id, read_manifest
from t2ipal.vocabulary import Vocabulary

IMPORTED = "imported"
_BLOCK = 64  # captions that are labelled together, their images in memory meanwhile
_CAPTION_KEYS = ("text", "caption")


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


def read_samples(source: Path) -> Iterator[Sample]:
    """The images of a folder or of webdataset shards, with their captions, in the order of names.

    Raises:
        UserError: there is no image, a caption is missing, or a file is broken; it is named.
    """
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


def import_images(
    source: Path, vocabulary: Vocabulary, out: Path
) -> tuple[list[LabelledCaption], list[ImageRow]]:
    """Bring images of a caption that names a class into an image store; a second start goes on.

    Returns:
        The labelled captions, those without a class too, and the rows of the manifest.

    Raises:
        UserError: as :func:`read_samples`; no caption names a class; or ``out`` holds other images.
    """
    store = ImageStore(out)
    known = store.rows()
    for row in known.values():
        if row.generator != IMPORTED:
            raise UserError(f"{out}: holds drawn images ({row.file}); choose another folder.")
    captions: list[LabelledCaption] = []
    rows: dict[str, ImageRow] = {}
    for sample, labelled in _labelled(source, vocabulary):
        captions.append(labelled)
        id = image_id(sample.key, 0)
        if not labelled.labels:
            continue
        old = known.get(id)
        if old is not None and old.caption == sample.caption and store.has(old):
            rows[id] = replace(old, labels=tuple(labelled.labels), unknown=tuple(labelled.unknown))
            continue
        if not store.journals():
            store.begin()
        image = sample.image()
        row = _row(labelled, id, *store.save(image, id), fingerprint(image))
        store.append(row)
        rows[id] = row
    if not rows:
        raise UserError(
            f"{source}: none of the {len(captions)} captions names a class; check the classes."
        )
    found = list(rows.values())
    if store.journals() or found != list(known.values()):
        store.discard(row for id, row in known.items() if id not in rows)
        store.finish(found)
    return captions, found


def pack(folder: Path, out: Path, *, per_shard: int = 1000) -> list[Path]:
    """Write a finished set as webdataset shards ``000000.tar``, ...; the same set, the same bytes.

    Each is written whole or not at all.

    Raises:
        UserError: the set is missing or unfinished, or ``per_shard`` is less than 1.
    """
    if per_shard < 1:
        raise UserError(f"images a shard must be at least 1, not {per_shard}.")
    rows = read_manifest(folder)
    shards = []
    for number, start in enumerate(range(0, len(rows), per_shard)):
        path = out / f"{number:06}.tar"
        with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
            for row in rows[start : start + per_shard]:
                _add(tar, f"{row.id}.png", (folder / row.file).read_bytes())
                _add(tar, f"{row.id}.txt", row.caption.encode())
                _add(tar, f"{row.id}.json", to_json_line(row.to_json()).encode())
        shards.append(path)
    return shards


def _labelled(source: Path, vocabulary: Vocabulary) -> Iterator[tuple[Sample, LabelledCaption]]:
    samples, keys = read_samples(source), set[str]()
    while block := list(islice(samples, _BLOCK)):
        for sample in block:
            if sample.key in keys:
                raise UserError(f"{sample.where}: is there twice; names must be unique.")
            keys.add(sample.key)
        texts = [Caption(sample.key, sample.caption) for sample in block]
        yield from zip(block, label_captions(texts, vocabulary), strict=True)


def _row(labelled: LabelledCaption, id: str, file: str, digest: str, mark: str) -> ImageRow:
    return ImageRow(
        id=id,
        caption_id=labelled.id,
        copy=0,
        caption=labelled.caption,
        labels=tuple(labelled.labels),
        unknown=tuple(labelled.unknown),
        seed=0,
        attempt=0,
        generator=IMPORTED,
        revision="",
        settings={},
        file=file,
        sha256=digest,
        fingerprint=mark,
    )


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, no owner: the bytes depend on the set alone
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


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
        caption = next((row[key] for key in _CAPTION_KEYS if row.get(key)), None)
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
    image = next((data for suffix, data in parts.items() if suffix in IMAGE_SUFFIXES), None)
    if image is None:
        raise UserError(f"{where}: has no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    try:
        if ".txt" in parts:
            return Sample(key, parts[".txt"].decode().strip(), where, image)
        row = json.loads(parts.get(".json", b"{}"))
        caption = next(row[name] for name in (*_CAPTION_KEYS, "prompt") if row.get(name))
    except (UnicodeDecodeError, ValueError, AttributeError, StopIteration):
        raise UserError(f"{where}: has no caption: a .txt, or a .json with text.") from None
    return Sample(key, str(caption), where, image)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the file as UTF-8.") from None
