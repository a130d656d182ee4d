"""Images made elsewhere come in, generated sets go out as webdataset shards.

What comes in is read by ``samples``. What goes out is, sample by sample, an image, its caption and
its row of the manifest.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from t2ipal.captions.labelled import LabelledCaption, label_captions
from t2ipal.captions.sources import Caption
from t2ipal.errors import UserError
from t2ipal.files import atomic_path, to_json_line
from t2ipal.files.broken import Broken
from t2ipal.files.folders import LeftOut
from t2ipal.files.lock import locking
from t2ipal.files.tables import refuse_special
from t2ipal.generation.duplicates import fingerprint
from t2ipal.generation.samples import Sample, read_samples
from t2ipal.generation.store import ImageRow, ImageStore, image_id, read_manifest
from t2ipal.vocabulary import Vocabulary

IMPORTED = "imported"
_BLOCK = 64  # captions that are labelled together, their images in memory meanwhile ...
_BLOCK_BYTES = 256 * 2**20  # ... of about this size at most


@locking
def import_images(
    source: str | Path,
    vocabulary: Vocabulary,
    out: Path,
    left_out: LeftOut | None = None,
    broken: Broken | None = None,
) -> tuple[list[LabelledCaption], list[ImageRow]]:
    """Bring images of a caption that names a class into an image store; resumes an earlier call.

    Args:
        left_out: counts the images that do not come in.
        broken: told of those that cannot be read, which are an error if omitted.

    Returns:
        The labelled captions, those without a class too, and the rows of the manifest.

    Raises:
        UserError: as :func:`read_samples`; no caption names a class; or ``out`` holds other images.
    """
    left_out = LeftOut() if left_out is None else left_out
    broken = Broken() if broken is None else broken
    store = ImageStore(out)
    known = store.rows()
    for row in known:
        if row.generator != IMPORTED:
            raise UserError(f"{out}: holds generated images ({row.file}); choose another folder.")
    captions: list[LabelledCaption] = []
    rows: dict[str, ImageRow] = {}
    for sample, labelled in _labelled(source, vocabulary, left_out, broken):
        id = image_id(sample.key, 0)
        if not labelled.labels:
            captions.append(labelled)
            left_out.add("images whose caption names no class", sample.key)
            continue
        old = known.get(id)
        if old is not None and old.caption == sample.caption and store.has(old):
            captions.append(labelled)
            rows[id] = old.relabelled(labelled.labels, labelled.unknown)
            continue
        if not store.journals():
            store.begin()
        try:
            image = sample.image(broken.max_megapixels)
        except UserError as error:
            broken.add(sample.where, error)
            continue
        captions.append(labelled)
        row = _row(labelled, id, *store.save(image, id), fingerprint(image))
        store.append(row)
        rows[id] = row
    if not rows:
        raise UserError(
            f"{source}: none of the {len(captions)} captions names a class; check the classes."
            if captions
            else f"{source}: none of the {len(broken)} images can be read; check the data."
        )
    found = list(rows.values())
    if store.journals() or found != [*known]:
        store.discard(row for row in known if row.id not in rows)
        store.finish(found)
    return captions, found


@locking
def pack(folder: Path, out: Path, *, per_shard: int = 1000) -> list[Path]:
    """Write a finished set as webdataset shards ``000000.tar``, ...; the same set, the same bytes.

    Each is written whole or not at all.

    Raises:
        UserError: the set is missing or unfinished, an image of it cannot be read, ``out`` holds
            further shards, or ``per_shard`` is less than 1.
    """
    if per_shard < 1:
        raise UserError(f"images per shard must be at least 1, not {per_shard}.")
    rows = read_manifest(folder)
    if not rows:
        raise UserError(f"{folder}: its images.jsonl lists no image, so there is nothing to pack.")
    last = f"{(len(rows) - 1) // per_shard:06}.tar"
    if left := [path for path in sorted(out.glob("*.tar")) if path.name > last]:
        raise UserError(f"{left[0]}: would lie among the new shards; choose another folder.")
    shards = []
    for number, start in enumerate(range(0, len(rows), per_shard)):
        path = out / f"{number:06}.tar"
        with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
            for row in rows[start : start + per_shard]:
                _add(tar, f"{row.id}.png", _content(folder / row.file, row.sha256))
                _add(tar, f"{row.id}.txt", row.caption.encode())
                _add(tar, f"{row.id}.json", to_json_line(row).encode())
        shards.append(path)
    return shards


def _labelled(
    source: str | Path, vocabulary: Vocabulary, left_out: LeftOut, broken: Broken
) -> Iterator[tuple[Sample, LabelledCaption]]:
    keys = set[str]()
    for block in _blocks(read_samples(source, left_out, broken)):
        fresh = []
        for sample in block:
            if sample.key in keys:
                twice = f"{sample.where}: is there twice; names must be unique."
                broken.add(sample.where, UserError(twice))
            else:
                keys.add(sample.key)
                fresh.append(sample)
        texts = [Caption(sample.key, sample.caption) for sample in fresh]
        yield from zip(fresh, label_captions(texts, vocabulary), strict=True)


def _blocks(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    block, size = list[Sample](), 0
    for sample in samples:
        block.append(sample)
        size += len(sample.data) if isinstance(sample.data, bytes) else 0
        if len(block) == _BLOCK or size > _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _row(labelled: LabelledCaption, id: str, file: str, digest: str, mark: str) -> ImageRow:
    return ImageRow(
        id=id,
        caption_id=labelled.id,
        copy=0,
        caption=labelled.caption,
        labels=labelled.labels,
        unknown=labelled.unknown,
        seed=0,
        attempt=0,
        generator=IMPORTED,
        revision="",
        settings={},
        file=file,
        sha256=digest,
        rejected=(),
        missing=(),
        added=(),
        fingerprint=mark,
    )


def _content(path: Path, digest: str) -> bytes:
    try:
        refuse_special(path)
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); run the command that made the set again."
        ) from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(
            f"{path}: is not the image that the manifest names, but was changed or replaced; "
            "delete it and run the command that made the set again."
        )
    return content


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, no owner: the bytes depend on the set alone
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
