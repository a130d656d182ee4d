"""Images with captions that were made elsewhere, one after the other.

A folder of images with a ``metadata.jsonl`` or ``metadata.csv`` (Hugging Face's ImageFolder:
``file_name`` and ``text`` or ``caption``) in it or in its sub-folders, or a text beside each image
(``a.jpg.txt``, ``a.txt``, ``.caption``, ``.json``); webdataset shards (``.tar``, also compressed,
whose neighbouring members of one key are an image and a ``.txt`` or ``.json``); or, as ``hf:NAME``,
a data set of Hugging Face's library.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from PIL import Image

from t2ipal.captions.sources import clean_text
from t2ipal.errors import UserError, listed
from t2ipal.files import read_jsonl
from t2ipal.files.broken import MAX_MEGAPIXELS, Broken
from t2ipal.files.folders import LeftOut, find_images, hidden
from t2ipal.files.names import portable_path, readable_name
from t2ipal.files.pictures import has_picture_suffix, load_image
from t2ipal.files.tables import read_json, read_table, text_lines

CAPTION_KEYS = ("text", "caption")
HUB = "hf:"
WITHOUT_CAPTION = "images without a caption"
_SIDECARS = (".txt", ".caption", ".text", ".json")
_METADATA = ("metadata.jsonl", "metadata.csv")
_SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MEMBER_BYTES = 256 * 2**20
_TEXT_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Sample:
    """An image, a file or the bytes of one, and its caption; ``where`` names it in messages."""

    key: str
    caption: str
    where: str
    data: Path | bytes

    def image(self, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
        """The picture, RGB.

        Raises:
            UserError: it cannot be read.
        """
        path, data = (self.data, None) if isinstance(self.data, Path) else (self.where, self.data)
        return load_image(path, data, max_megapixels=max_megapixels)


def read_samples(
    source: str | Path, left_out: LeftOut | None = None, broken: Broken | None = None
) -> Iterator[Sample]:
    """The images of a folder or of webdataset shards in the order of names, or those of ``hf:NAME``
    in its own order, with their captions.

    The key of a sample is its path in the folder, or in its shard behind the shard's name.

    Args:
        left_out: counts images without a caption, captions without an image, and the like.
        broken: told of what cannot be read, which is an error if omitted.

    Raises:
        UserError: there is no image with a caption, or a file is broken; it is named.
    """
    left_out = LeftOut() if left_out is None else left_out
    broken = Broken() if broken is None else broken
    found = _samples(source, left_out, broken)
    first = next(found, None)
    if first is None:
        why = str(left_out) or f"left out: {len(broken)} broken"
        raise UserError(f"{source}: holds no image with a caption ({why}); check the source.")
    yield first
    yield from found


def _samples(source: str | Path, left_out: LeftOut, broken: Broken) -> Iterator[Sample]:
    if str(source).startswith(HUB):
        from t2ipal.generation.hub_dataset import dataset_samples

        yield from dataset_samples(str(source).removeprefix(HUB), left_out, broken)
        return
    source = Path(source)
    if source.name.lower().endswith(_SHARDS) and not source.is_dir():
        if not source.is_file():
            raise UserError(f"{source}: there is no such file; check the path.")
        yield from _tar_samples(source, left_out, broken)
    elif not source.is_dir():
        raise UserError(f"{source}: neither a folder of images nor a .tar; check the path.")
    elif tars := [path for path in sorted(source.iterdir()) if _is_shard(path)]:
        for path in find_images([source]):
            left_out.add("images beside the shards", path.relative_to(source).as_posix())
        for path in tars:
            yield from _tar_samples(path, left_out, broken)
    else:
        yield from _folder_samples(source, left_out, broken)


def _is_shard(path: Path) -> bool:
    return path.name.lower().endswith(_SHARDS) and not hidden(path.name) and path.is_file()


# --- folders ------------------------------------------------------------------------------------


def _folder_samples(folder: Path, left_out: LeftOut, broken: Broken) -> Iterator[Sample]:
    images = list(find_images([folder], left_out))
    if not images:
        why = f" ({left_out})" if str(left_out) else ""
        raise UserError(f"{folder}: no image in this folder{why}; check the path.")
    files = [folder / name for name in _METADATA if (folder / name).is_file()][:1]
    files = files or sorted(path for name in _METADATA for path in folder.glob(f"*/{name}"))
    if files:
        yield from _listed_samples(folder, files, images, left_out, broken)
        return
    samples = []
    texts = {path: file for path in images if (file := _sidecar(path)) is not None}
    owners: dict[Path, list[str]] = {}
    for path, file in texts.items():
        owners.setdefault(file, []).append(path.name)
    for path in images:
        name, caption = path.relative_to(folder).as_posix(), ""
        try:
            if (beside := texts.get(path)) is not None:
                if len(several := owners[beside]) > 1:
                    raise UserError(
                        f"{beside}: lies beside {listed(several)}; give each its own, such as "
                        f"{several[0]}.txt."
                    )
                caption = _caption_of(beside)
        except UserError as error:
            broken.add(path, error)
            continue
        if caption:
            samples.append(Sample(readable_name(name), caption, str(path), path))
        else:
            left_out.add(WITHOUT_CAPTION, name)
    yield from samples


def _listed_samples(
    folder: Path, files: list[Path], images: list[Path], left_out: LeftOut, broken: Broken
) -> Iterator[Sample]:
    """The images that metadata files list."""
    taken = set()
    for file in files:
        for line, name, caption in _metadata(file):
            where = f"{file}:{line}"
            relative = portable_path(name)
            if relative.is_absolute() or ".." in relative.parts:
                raise UserError(f"{where}: {name} lies outside the folder; refused.")
            path = file.parent / relative
            taken.add(path)
            if not caption:
                left_out.add(WITHOUT_CAPTION, f"{file.name}:{line}")
                continue
            key = readable_name(path.relative_to(folder).as_posix())
            yield Sample(key, caption, f"{where}: {name}", path)
    for path in images:
        if path not in taken:
            name = path.relative_to(folder).as_posix()
            left_out.add(f"images that {files[0].name} does not list", name)


def _metadata(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, file name, caption or nothing) of each row of a metadata file."""
    rows: Iterator[tuple[int, dict[str, Any]]]
    if path.suffix == ".jsonl":
        rows = read_jsonl(path)
    else:
        table = read_table(path)
        rows = ((n, dict(zip(table.columns, cells, strict=True))) for n, cells in table.rows)
    for number, row in rows:
        caption = _caption_in(row)
        if not isinstance(row.get("file_name"), str) or caption is None:
            raise UserError(f"{path}:{number}: needs file_name and text (or caption), both texts.")
        yield number, row["file_name"], caption


def _sidecar(path: Path) -> Path | None:
    """The text beside an image."""
    names = [path.with_name(path.name + suffix) for suffix in _SIDECARS]
    names += [path.with_suffix(suffix) for suffix in _SIDECARS]
    return next((name for name in names if name.is_file()), None)


def _caption_of(path: Path) -> str:
    """The caption in a file beside an image; empty if it holds none."""
    if path.suffix == ".json":
        return _caption_in(read_json(path)) or ""
    return _text(path)


def _caption_in(row: object) -> str | None:
    """The caption of an object, the first of several; empty if there is none, None if no text."""
    if not isinstance(row, Mapping):
        return None
    values = [row[key] for key in (*CAPTION_KEYS, "prompt") if key in row]
    for value in values:
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, str) and first.strip():
            return clean_text(first)
    return None if any(value and not isinstance(value, str) for value in values) else ""


def _text(path: str | Path, data: bytes | None = None) -> str:
    return clean_text(" ".join(line for _, line in text_lines(path, data=data)))


# --- webdataset ---------------------------------------------------------------------------------


def _tar_samples(path: Path, left_out: LeftOut, broken: Broken) -> Iterator[Sample]:
    """Samples of one shard: neighbours whose names agree up to the first dot."""
    shard, seen = readable_name(path.name).partition(".")[0], set[str]()
    for key, parts in _groups(path, left_out, broken):
        where = f"{path}: {key}"
        if key in seen:
            broken.add(where, UserError(f"{where}: is there twice; names must be unique."))
            continue
        seen.add(key)
        pictures = [suffix for suffix in parts if has_picture_suffix("x" + suffix)]
        if not pictures:
            left_out.add("samples without an image", f"{path.name}: {key}")
            continue
        try:
            caption = _caption_among(where, parts)
        except UserError as error:
            broken.add(where, error)
            continue
        if caption:
            # 1.jpg rather than 1.mask.png
            image = min(pictures, key=lambda suffix: suffix.count("."))
            yield Sample(f"{shard}/{key}", caption, where, parts[image])
        else:
            left_out.add(WITHOUT_CAPTION, f"{path.name}: {key}")


def _groups(
    path: Path, left_out: LeftOut, broken: Broken
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, suffix -> bytes) of each group of neighbours."""
    key, parts = "", dict[str, bytes]()
    try:
        with _unpacked(path) as stream:
            bounded = _Bounded(stream)
            with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]
                for member in tar:
                    name = PurePosixPath(readable_name(member.name))
                    if not member.isfile():
                        continue
                    if any(map(hidden, name.parts)):
                        left_out.add("hidden files")
                        continue
                    stem, _, suffix = name.name.partition(".")
                    here = (name.parent / stem).as_posix()
                    if here != key and parts:
                        yield key, parts
                        parts = {}
                    key = here
                    parts["." + suffix.lower()] = _content(tar, member, parts)
                if parts:
                    yield key, parts
                stream.seek(tar.offset)
                if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    raise tarfile.ReadError(f"damaged behind {key}")
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        broken.add(
            path, UserError(f"{path}: is no whole tar file ({error}); fetch or write it again.")
        )


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        start = stream.read(6)
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if start.startswith(magic):
            return opened(path)  # type: ignore[return-value]
    return path.open("rb")


class _Bounded:
    """A stream of which nobody reads very much at once, whatever a header says."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MEMBER_BYTES:
            raise tarfile.ReadError(f"a part of it is said to have {size:,} bytes")
        return self._stream.read(size)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, before: Mapping[str, bytes]) -> bytes:
    """The bytes of a member, unless its sample is larger than any image with a caption."""
    if member.size + sum(map(len, before.values())) > _MEMBER_BYTES:
        raise tarfile.ReadError(
            f"{readable_name(member.name)} has {member.size:,} bytes, more than "
            f"{_MEMBER_BYTES >> 20} MB for a sample"
        )
    stream = tar.extractfile(member)
    assert stream is not None, "it is a file"
    return stream.read()


def _caption_among(where: str, parts: Mapping[str, bytes]) -> str:
    """The caption of a sample; empty if it has none."""
    for suffix in _SIDECARS:
        if suffix not in parts:
            continue
        data = parts[suffix]
        if len(data) > _TEXT_BYTES:
            raise UserError(f"{where}: its text has {len(data):,} bytes, more than any caption.")
        if suffix != ".json":
            return _text(where, data)
        try:
            return _caption_in(json.loads(data)) or ""
        except (ValueError, RecursionError):
            raise UserError(f"{where}: its .json is broken; repair or remove it.") from None
    return ""
