"""Image files as pixels for a backbone: hashed, decoded and cut into views beside the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from t2ipal.clip.crops import Crop, cut
from t2ipal.errors import UserError
from t2ipal.files import sha256_file
from t2ipal.files.broken import Broken
from t2ipal.files.pictures import load_image, why_unreadable
from t2ipal.parallel.ahead import map_ahead


@dataclass(frozen=True)
class View:
    """An image file, or a crop of it, and the key under which its features are kept."""

    key: str
    file: Path
    crop: Crop | None = None


def view_keys(hashes: Iterable[str], crops: Sequence[Crop | None]) -> Iterator[str]:
    """The keys of each file's views, one after another."""
    parts = view_suffixes(crops)
    return (key + part for key in hashes for part in parts)


def view_suffixes(crops: Sequence[Crop | None]) -> list[str]:
    """What the key of a file's view ends with."""
    return ["" if one is None else "@" + ",".join(f"{edge:.6f}" for edge in one) for one in crops]


class ImageReader:
    """Reads image files.

    Args:
        preprocess: an image -> pixels [3, S, S].
        broken: told of images that cannot be read.
    """

    def __init__(self, preprocess: Callable[[Image.Image], Tensor], broken: Broken) -> None:
        self.preprocess = preprocess
        self.broken = broken
        self._hashes: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def hashes(self, files: Sequence[str | Path]) -> list[str]:
        """SHA-256 of each file in hex, by which the cache knows images; empty for broken ones."""
        hashes = []
        for path in map(Path, files):
            try:
                if not path.is_file():
                    raise UserError(f"{path}: {why_unreadable([path])[0]}")
                hashes.append(self._hash(path, remember=True))
            except OSError as error:
                reason = f"{path}: cannot be read ({error.strerror}); check its permissions."
                self.broken.add(path, UserError(reason))
                hashes.append("")
            except UserError as error:
                self.broken.add(path, error)
                hashes.append("")
        return hashes

    def _hash(self, path: Path, *, remember: bool = False) -> str:
        """SHA-256 of a file; one that is remembered is read once unless it changes meanwhile."""
        found = path.stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        known = self._hashes.get(path)
        if known is None or known[0] != state:
            known = (state, sha256_file(path))
            if remember:
                self._hashes[path] = known
        return known[1]

    def pixels(
        self, views: Sequence[View], batch_size: int, per_file: int
    ) -> Iterator[tuple[Sequence[View], Tensor]]:
        """Batches with their pixels [batch_size, 3, S, S], the next ones decoded meanwhile.

        ``per_file``: at most how many views, one after another, are of one file.
        """
        decoded = self._decoded(views, 2 * batch_size // per_file)
        while block := list(islice(decoded, batch_size)):
            batch, pixels = zip(*block, strict=True)
            filled = [*pixels] + [torch.zeros_like(pixels[0])] * (batch_size - len(pixels))
            yield batch, torch.stack(filled)

    def _decoded(self, views: Sequence[View], ahead: int) -> Iterator[tuple[View, Tensor]]:
        """Views that can be read, with pixels [3, S, S]; ``ahead`` files are decoded meanwhile.

        All views of a file are cut from it at once.
        """
        files = (list(group) for _, group in groupby(views, key=lambda view: view.file))
        for same, pixels in map_ahead(self._decode, files, ahead):
            if isinstance(pixels, UserError):
                self.broken.add(same[0].file, pixels)
            else:
                yield from zip(same, pixels, strict=True)

    def _decode(self, views: Sequence[View]) -> tuple[Sequence[View], list[Tensor] | UserError]:
        """Views of one file and their pixels, or why it cannot be read."""
        return views, self._pixels_of(views)

    def _pixels_of(self, views: Sequence[View]) -> list[Tensor] | UserError:
        file = views[0].file
        try:
            image = load_image(file, max_megapixels=self.broken.max_megapixels)
        except UserError as error:
            return error
        if self._hash(file) != views[0].key.partition("@")[0]:
            return UserError(
                f"{file}: is not the image that its manifest names, but was changed or replaced; "
                "delete it and run the command that made it again."
            )
        parts = (image if view.crop is None else cut(image, view.crop) for view in views)
        return [self.preprocess(part) for part in parts]
