"""The feature cache: every image and caption goes through the frozen CLIP once.

CLIP never changes while a recogniser is trained, so its features are computed once and kept as
safetensors shards. A feature is found again by the hash of the image file (or the text of the
caption), the backbone's weights, the preprocessing and the precision: whatever changes any of these
starts afresh.

Batches always have the full size (the last is filled up), and captions are cut to multiples of
eight tokens: so an item's features do not depend on the items computed beside it, and a run that
was interrupted ends with the same bytes as an undisturbed one. Another ``batch_size`` may change
the last bits.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.crops import Window, cut, windows
from t2ipal.clip.shards import Item, ShardFolder, gather_global, gather_local, mask_of
from t2ipal.datasets.pictures import load_image
from t2ipal.errors import UserError
from t2ipal.files import sha256_file, sha256_text
from t2ipal.method.items import ItemSet

logger = logging.getLogger(__name__)

_SHARD_ITEMS = 256
_SHARD_BYTES = 64 * 2**20
_TOKEN_STEP = 8
_DECODERS = min(32, os.cpu_count() or 1)  # a GPU embeds as fast as dozens of cores decode


@dataclass(frozen=True, eq=False)
class ImageBank:
    """Features of N images in the order asked for, on the CPU, L2-normalised.

    Attributes:
        global_: [N, D] float32.
        local: [N, P, D] float16; a large one is mapped from disk.
        grid: (h, w), h * w = P.
        computed: how many distinct images were not in the cache before.
    """

    global_: Tensor
    local: Tensor
    grid: tuple[int, int]
    computed: int


@dataclass(frozen=True, eq=False)
class CaptionBank:
    """Features of N captions in the order asked for, on the CPU, L2-normalised.

    Attributes:
        global_: [N, D] float32, the end-of-text features.
        local: [N, T, D] float16, the token features; zeros behind the end of a caption.
        mask: [N, T] True from the first to the end-of-text token.
        computed: how many distinct captions were not in the cache before.
    """

    global_: Tensor
    local: Tensor
    mask: Tensor
    computed: int


@dataclass(frozen=True)
class Picture:
    """An image file and the key under which its features are kept."""

    key: str
    file: Path
    window: Window | None = None


class FeatureCache:
    """Features of images and captions by one backbone, kept in a folder.

    Args:
        folder: where shards lie; shared by all backbones, made when needed.
        backbone: the frozen CLIP.
        verify: compare the shards that are there with their checksums, which reads them whole; one
            that differs is removed, and its items are computed again.
    """

    def __init__(self, folder: str | Path, backbone: Backbone, *, verify: bool = False) -> None:
        self.folder = Path(folder)
        self.backbone = backbone
        self._images = ShardFolder(self.folder, f"images-{backbone.image_space}", verify)
        self._captions = ShardFolder(self.folder, f"captions-{backbone.text_space}", verify)

    def images(
        self,
        files: Sequence[str | Path],
        hashes: Sequence[str] | None = None,
        *,
        window: Window | None = None,
        batch_size: int = 32,
        progress: bool = True,
    ) -> ImageBank:
        """Features of image files; those in the cache are not computed, their files not opened.

        Args:
            files: N image files.
            hashes: SHA-256 of the files in hex, where known (a manifest has them); the same hash is
                the same image, whatever the file is called.
            window: the part of every image to look at; the whole where not given.
            batch_size: images that go through the backbone together.
            progress: show a progress bar on a terminal.

        Raises:
            UserError: there is no file, or one cannot be read as an image: it is named, and what
                was computed before it is kept.
        """
        pictures = _pictures(files, hashes, window)
        computed = self._embed_images(pictures, batch_size, progress)
        places = [self._images.place(picture.key) for picture in pictures]
        grid = places[0].shard.grid
        if grid is None:
            raise UserError(f"{places[0].shard.path}: holds no image features; delete the file.")
        local = gather_local(places, self.folder)
        return ImageBank(gather_global(places), local, grid, computed)

    def embed_images(
        self,
        files: Sequence[str | Path],
        hashes: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
        progress: bool = True,
    ) -> int:
        """Bring image files into the cache as :meth:`images` does, without reading features back.

        Memory does not grow with the number of images. Returns how many were computed.
        """
        return self._embed_images(_pictures(files, hashes), batch_size, progress)

    def captions(
        self, texts: Sequence[str], *, batch_size: int = 64, progress: bool = True
    ) -> CaptionBank:
        """Features of captions; those in the cache are not computed.

        A caption longer than the text tower's context is cut, as open_clip does; the log says how
        many were.

        Raises:
            UserError: there is no caption.
        """
        missing = self.missing_captions(texts)
        with _bar(len(missing), "embedding captions", progress) as bar:
            for block in self.caption_shards(missing):
                self.compute_captions(block, batch_size=batch_size)
                bar.update(len(block))
        keys = [sha256_text(text) for text in texts]
        places = [self._captions.place(key) for key in keys]
        local = gather_local(places, self.folder)
        return CaptionBank(gather_global(places), local, mask_of(places), len(missing))

    # --- the same in parts, for several processes ------------------------------------------------

    def missing_images(
        self, files: Sequence[str | Path], hashes: Sequence[str] | None = None
    ) -> list[Picture]:
        """Those of the image files, as :meth:`images` takes them, that are not in the cache."""
        return self._missing(_pictures(files, hashes))

    def image_shards(
        self, missing: Sequence[Picture], batch_size: int
    ) -> list[tuple[Picture, ...]]:
        """The missing images as :meth:`embed_images` cuts them into shards."""
        return list(_chunks(missing, _shard_length(batch_size, self.backbone.cost[0])))

    def compute_images(
        self, missing: Sequence[Picture], *, batch_size: int = 32, progress: bool = False
    ) -> None:
        """Compute and write missing images without a look at what other processes wrote."""
        pending: list[Item] = []
        grid: tuple[int, int] | None = None
        with _bar(len(missing), "embedding images", progress) as bar:
            try:
                for batch, pixels in self._pixels(missing, batch_size):
                    items, grid = self._encode_images(batch, pixels)
                    pending += items
                    bar.update(len(batch))
                    if len(pending) >= _shard_length(batch_size, items[0].nbytes):
                        self._images.write(pending, grid)
                        pending = []
            finally:  # an unreadable image or Ctrl-C does not cost what is already computed
                if pending:
                    self._images.write(pending, grid)

    def missing_captions(self, texts: Sequence[str]) -> list[str]:
        """Those of the captions that are not in the cache, each once."""
        if not texts:
            raise UserError("there are no captions to embed; check the captions file.")
        self._captions.refresh()
        return [text for text in dict.fromkeys(texts) if sha256_text(text) not in self._captions]

    def caption_shards(self, missing: Sequence[str]) -> list[tuple[str, ...]]:
        """The missing captions as :meth:`captions` cuts them into shards."""
        return list(_chunks(missing, _SHARD_ITEMS))

    def compute_captions(self, missing: Sequence[str], *, batch_size: int = 64) -> None:
        """Compute and write a shard of captions without a look at what other processes wrote."""
        texts = {sha256_text(text): text for text in missing}
        self._captions.write(self._encode_captions(texts, batch_size), None)

    # --- images ----------------------------------------------------------------------------------

    def _embed_images(self, pictures: Sequence[Picture], batch_size: int, progress: bool) -> int:
        missing = self._missing(pictures)
        self.compute_images(missing, batch_size=batch_size, progress=progress)
        return len(missing)

    def _missing(self, pictures: Sequence[Picture]) -> list[Picture]:
        self._images.refresh()
        unique = {picture.key: picture for picture in reversed(pictures)}  # first file of each key
        wanted = dict.fromkeys(picture.key for picture in pictures)
        return [unique[key] for key in wanted if key not in self._images]

    def _pixels(
        self, pictures: Sequence[Picture], batch_size: int
    ) -> Iterator[tuple[Sequence[Picture], Tensor]]:
        """Batches with their pixels [batch_size, 3, S, S], the next one decoded meanwhile."""
        with ThreadPoolExecutor(_DECODERS) as pool:
            following = deque[tuple[tuple[Picture, ...], list[Future[Tensor]]]]()
            for batch in [*_chunks(pictures, batch_size), ()]:
                following.append((batch, [pool.submit(self._decode, p) for p in batch]))
                if len(following) > 1:
                    current, futures = following.popleft()
                    pixels = [future.result() for future in futures]
                    pixels += [torch.zeros_like(pixels[0])] * (batch_size - len(pixels))
                    yield current, torch.stack(pixels)

    def _decode(self, picture: Picture) -> Tensor:
        image = load_image(picture.file)
        if picture.window is not None:
            image = cut(image, picture.window)
        return self.backbone.preprocess(image)

    def _encode_images(
        self, batch: Sequence[Picture], pixels: Tensor
    ) -> tuple[list[Item], tuple[int, int]]:
        features = self.backbone.encode_image(pixels)
        global_, local = _stored(features.global_, features.local)
        items = [Item(p.key, global_[i], local[i]) for i, p in enumerate(batch)]
        return items, features.grid

    # --- captions --------------------------------------------------------------------------------

    def _encode_captions(self, texts: dict[str, str], batch_size: int) -> list[Item]:
        """Items of captions {key: text} in their order, computed in groups of like length."""
        tokens = self.backbone.tokenize(list(texts.values()))  # [n, context]
        eos = self.backbone.eos_positions(tokens)
        context = tokens.shape[1]
        if (cut := int((eos == context - 1).sum())) > 0:
            logger.warning("%d captions fill all %d tokens: what goes beyond is cut", cut, context)
        keys = list(texts)
        items: dict[str, Item] = {}
        lengths = (eos // _TOKEN_STEP + 1) * _TOKEN_STEP  # positions 0..eos, rounded up
        for length in sorted(set(lengths.tolist())):
            for rows in _chunks(torch.nonzero(lengths == length)[:, 0].tolist(), batch_size):
                filled = [*rows] + [rows[0]] * (batch_size - len(rows))
                features = self.backbone.encode_tokens(tokens[filled, :length])
                global_, local = _stored(features.global_, features.local)
                for i, row in enumerate(rows):
                    end = int(eos[row]) + 1
                    items[keys[row]] = Item(keys[row], global_[i], local[i, :end])
        return [items[key] for key in keys]


def _shard_length(batch_size: int, item_bytes: int) -> int:
    """Images in a shard: whole batches, as many as fit into it.

    So an interrupted run cuts the rest of the images into the same shards as an undisturbed one.
    """
    return batch_size * max(1, min(_SHARD_ITEMS, _SHARD_BYTES // item_bytes) // batch_size)


_T = TypeVar("_T")


def _chunks(values: Iterable[_T], size: int) -> Iterator[tuple[_T, ...]]:
    iterator = iter(values)
    while chunk := tuple(islice(iterator, size)):
        yield chunk


def _pictures(
    files: Sequence[str | Path], hashes: Sequence[str] | None, window: Window | None = None
) -> list[Picture]:
    if not files:
        raise UserError("there are no images to embed; check the folder or the manifest.")
    paths = [Path(file) for file in files]
    keys = hash_images(paths) if hashes is None else hashes
    if len(keys) != len(paths):
        raise ValueError(f"{len(paths)} files but {len(keys)} hashes")
    part = "" if window is None else "@" + ",".join(f"{edge:.6f}" for edge in window)
    return [Picture(key + part, path, window) for key, path in zip(keys, paths, strict=True)]


def hash_images(files: Sequence[Path]) -> list[str]:
    """SHA-256 of each file in hex, by which the cache knows images.

    Raises:
        UserError: one cannot be read; it is named.
    """
    hashes = []
    for path in files:
        try:
            hashes.append(sha256_file(path))
        except OSError as error:
            raise UserError(
                f"{path}: image cannot be read ({error.strerror}); check the path."
            ) from None
    return hashes


def _stored(global_: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    """Features as they are kept: normalised, on the CPU, float32 [B, D] and float16 [B, P, D]."""
    return F.normalize(global_, dim=-1).cpu(), F.normalize(local, dim=-1).half().cpu()


def _bar(total: int, title: str, progress: bool) -> tqdm:
    # disable=None: tqdm draws only on a terminal
    return tqdm(total=total, desc=title, unit="", disable=None if progress and total else True)


def image_items(
    cache: FeatureCache,
    files: Sequence[Path],
    targets: np.ndarray,
    hashes: Sequence[str] | None = None,
    *,
    crops: int = 0,
    progress: bool = True,
) -> ItemSet:
    """Image files [N] with labels [N, C] as items, seen whole and through ``crops`` windows a side.

    Raises:
        UserError: a file cannot be read, or ``crops`` is 1 or negative.
    """
    if crops and hashes is None:
        hashes = hash_images(files)
    labels = torch.from_numpy(targets)

    def seen(window: Window | None) -> ItemSet:
        bank = cache.images(files, hashes, window=window, progress=progress)
        return ItemSet(bank.global_, bank.local, None, labels, "image")

    return replace(seen(None), crops=tuple(map(seen, windows(crops))))
