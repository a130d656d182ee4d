"""The feature cache: every image and caption goes through the frozen CLIP once.

CLIP never changes while a head is trained, so its features are computed once and kept as
safetensors shards. A feature is found by the hash of the image file (or of the caption's text), the
backbone's weights, the preprocessing and the precision; if any of these changes, it is computed
anew.

Batches always have the full size (the last is filled up), and captions are cut to multiples of
eight tokens: so an item's features do not depend on the items computed beside it, and a run that
was interrupted ends with the same bytes as an undisturbed one. Another ``batch_size`` may change
the last bits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.crops import Crop, crop_boxes
from t2ipal.clip.image_reader import ImageReader, View, view_keys, view_suffixes
from t2ipal.clip.shards import Features, Item, ShardFolder
from t2ipal.datasets.labelled_images import LabelledImages, Labels
from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.files.broken import Broken
from t2ipal.files.row_file import KeyIndex, Lazy, at_positions
from t2ipal.method.items import ItemSet

logger = logging.getLogger(__name__)

_SHARD_ITEMS = 256
_SHARD_BYTES = 64 * 2**20
_TOKEN_STEP = 8


class FeatureCache:
    """Features of images and captions by one backbone, kept in a folder.

    Args:
        folder: of the shards; shared by all backbones, created when needed.
        backbone: the frozen CLIP.
        verify: compare existing shards with their checksums, which reads them whole; one that
            differs is removed, and its items are computed again.
        broken: told of images that cannot be read, which are an error if omitted.
    """

    def __init__(
        self,
        folder: str | Path,
        backbone: Backbone,
        *,
        verify: bool = False,
        broken: Broken | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.backbone = backbone
        self.broken = Broken() if broken is None else broken
        self.reader = ImageReader(backbone.preprocess, self.broken)
        self._images = ShardFolder(self.folder, f"images-{backbone.image_space}", verify)
        self._captions = ShardFolder(self.folder, f"captions-{backbone.text_space}", verify)

    def images(
        self,
        files: Sequence[str | Path],
        hashes: Sequence[str] | None = None,
        *,
        crop: Crop | None = None,
        batch_size: int = 32,
        progress: bool = True,
    ) -> Features:
        """Features of image files; those in the cache are not computed, their files not opened.

        Args:
            files: N image files.
            hashes: SHA-256 of the files in hex, if known (a manifest has them); the same hash is
                the same image, whatever the file is called.
            crop: the part of every image to look at; the whole image if omitted.
            batch_size: images that go through the backbone together.
            progress: show a progress bar on a terminal.

        Raises:
            UserError: there is no file, or one cannot be read as an image: it is named, and what
                was computed before it is kept. Skipped ones must not be asked for: see
                :meth:`readable`.
        """
        hashes = self._hashed(files, hashes)
        computed = self._embed_images(files, hashes, (crop,), batch_size, progress)
        places = self._images.find(view_keys(hashes, (crop,)))
        for row in np.flatnonzero(places < 0).tolist():
            file = str(files[row])
            raise UserError(f"{file}: {self.broken.reasons.get(file, 'cannot be read.')}")
        return replace(self._images.gather(places), computed=computed)

    def embed_images(
        self,
        files: Sequence[str | Path],
        hashes: Sequence[str] | None = None,
        *,
        crops: int = 0,
        batch_size: int = 32,
        progress: bool = True,
    ) -> int:
        """Bring image files into the cache as :meth:`images` does, without reading features back.

        With ``crops`` each file is decoded once for the whole image and its ``crops`` x ``crops``
        crops. Memory does not grow with the number of images. Returns how many images and crops
        were computed.
        """
        hashes, views = self._hashed(files, hashes), (None, *crop_boxes(crops))
        return self._embed_images(files, hashes, views, batch_size, progress)

    def readable(
        self, images: LabelledImages, *, crops: int = 0, progress: bool = True
    ) -> LabelledImages:
        """The images that can be embedded: all of them, unless broken ones are skipped.

        To find these, all are embedded. ``crops`` as :meth:`embed_images` takes it.

        Raises:
            UserError: none can be read.
        """
        if not self.broken.skip:
            return images
        hashes, views = self.reader.hashes(images.files), (None, *crop_boxes(crops))
        self.embed_images(images.files, hashes, crops=crops, progress=progress)
        places = self._images.find(view_keys(hashes, views)).reshape(-1, len(views))
        kept: list[int] = []
        for row, (there, file) in enumerate(zip(places, images.files, strict=True)):
            if (there >= 0).all():
                kept.append(row)
            elif str(file) not in self.broken.reasons:
                self.broken.add(file, UserError("has the bytes of another file that is broken."))
        if not kept:
            raise UserError(f"{images.source}: none of its images can be read; check the data.")
        return images.only(kept)

    def captions(
        self,
        texts: Sequence[str],
        hashes: Sequence[str] | None = None,
        *,
        batch_size: int = 64,
        progress: bool = True,
    ) -> Features:
        """Features of captions; those in the cache are not computed.

        A caption longer than the text tower's context is cut, as open_clip does; the log gives the
        number of such captions.

        Args:
            texts: N captions.
            hashes: SHA-256 of the texts in hex, if known.

        Raises:
            UserError: there is no caption.
        """
        computed = self.embed_captions(texts, hashes, batch_size=batch_size, progress=progress)
        found = self._captions.gather(self._captions.find(_text_keys(texts, hashes)))
        return replace(found, computed=computed)

    def embed_captions(
        self,
        texts: Sequence[str],
        hashes: Sequence[str] | None = None,
        *,
        batch_size: int = 64,
        progress: bool = True,
    ) -> int:
        """Bring captions into the cache as :meth:`captions` does; how many were computed."""
        missing = self.missing_captions(texts, hashes)
        with _bar(len(missing), "embedding captions", progress) as bar:
            for block in self.caption_shards(missing):
                self.compute_captions(block, batch_size=batch_size)
                bar.update(len(block))
        return len(missing)

    # --- the same in parts, for several processes ------------------------------------------------

    def missing_images(
        self, files: Sequence[str | Path], hashes: Sequence[str] | None = None
    ) -> Sequence[View]:
        """Those of the image files, as :meth:`images` takes them, that are not in the cache."""
        return self._missing(files, self._hashed(files, hashes), (None,))

    def image_shards(self, missing: Sequence[View], batch_size: int) -> Sequence[Sequence[View]]:
        """The missing images as :meth:`embed_images` cuts them into shards."""
        return _cut(missing, _shard_length(batch_size, self.backbone.cost[0]))

    def compute_images(
        self,
        missing: Sequence[View],
        *,
        batch_size: int = 32,
        progress: bool = False,
        per_file: int = 1,
    ) -> int:
        """Compute and write missing images, whatever other processes have written; how many.

        ``per_file``: at most how many of them, one after another, are views of one file.
        """
        pending: list[Item] = []
        computed = 0
        grid: tuple[int, int] | None = None
        with _bar(len(missing), "embedding images", progress) as bar:
            try:
                for batch, pixels in self.reader.pixels(missing, batch_size, per_file):
                    items, grid = self._encode_images(batch, pixels)
                    pending += items
                    computed += len(batch)
                    bar.update(len(batch))
                    if len(pending) >= _shard_length(batch_size, items[0].nbytes):
                        self._images.write(pending, grid)
                        pending = []
            finally:  # an unreadable image or Ctrl-C does not cost what is already computed
                if pending:
                    self._images.write(pending, grid)
        return computed

    def missing_captions(
        self, texts: Sequence[str], hashes: Sequence[str] | None = None
    ) -> Sequence[str]:
        """Those of the captions that are not in the cache, each once."""
        if not texts:
            raise UserError("there are no captions to embed; check the captions file.")
        self._captions.refresh()
        rows = np.flatnonzero(self._captions.find(_text_keys(texts, hashes)) < 0)
        missing = at_positions(texts, rows)
        return at_positions(missing, KeyIndex(missing, first=True).distinct())

    def caption_shards(self, missing: Sequence[str]) -> Sequence[Sequence[str]]:
        """The missing captions as :meth:`embed_captions` cuts them into shards."""
        return _cut(missing, _SHARD_ITEMS)

    def compute_captions(self, missing: Sequence[str], *, batch_size: int = 64) -> None:
        """Compute and write a shard of captions, whatever other processes have written."""
        texts = {sha256_text(text): text for text in missing}
        self._captions.write(self._encode_captions(texts, batch_size), None)

    # --- images ----------------------------------------------------------------------------------

    def _hashed(self, files: Sequence[str | Path], hashes: Sequence[str] | None) -> Sequence[str]:
        """The hashes of image files, as far as they are not known."""
        if not files:
            raise UserError("there are no images to embed; check the folder or the manifest.")
        if hashes is None:
            return self.reader.hashes(files)
        if len(hashes) != len(files):
            raise ValueError(f"{len(files)} files but {len(hashes)} hashes")
        return hashes

    def _embed_images(
        self,
        files: Sequence[str | Path],
        hashes: Sequence[str],
        crops: Sequence[Crop | None],
        batch_size: int,
        progress: bool,
    ) -> int:
        return self.compute_images(
            self._missing(files, hashes, crops),
            batch_size=batch_size,
            progress=progress,
            per_file=len(crops),
        )

    def _missing(
        self, files: Sequence[str | Path], hashes: Sequence[str], crops: Sequence[Crop | None]
    ) -> Sequence[View]:
        """The views of each file that are not in the cache, each once; None is the whole image."""
        self._images.refresh()
        rows = np.flatnonzero(self._images.find(view_keys(hashes, crops)) < 0)
        parts = view_suffixes(crops)

        def view(row: int) -> View:
            file, crop = divmod(row, len(crops))
            return View(hashes[file] + parts[crop], Path(files[file]), crops[crop])

        views = at_positions(Lazy(len(files) * len(crops), view), rows)
        if lost := self.broken.reasons:
            there = np.flatnonzero([str(view.file) not in lost for view in views])
            views = at_positions(views, there)
        return at_positions(views, KeyIndex((view.key for view in views), first=True).distinct())

    def _encode_images(
        self, batch: Sequence[View], pixels: Tensor
    ) -> tuple[list[Item], tuple[int, int]]:
        features = self.backbone.encode_image(pixels)
        global_, local = _stored(features.global_, features.local)
        items = [Item(view.key, global_[i], local[i]) for i, view in enumerate(batch)]
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


def _cut(values: Sequence[_T], size: int) -> Sequence[Sequence[_T]]:
    """Parts of ``size``, each made when it is asked for."""
    return Lazy(-(-len(values) // size), lambda i: tuple(values[i * size : (i + 1) * size]))


def _text_keys(texts: Iterable[str], hashes: Iterable[str] | None) -> Iterable[str]:
    return map(sha256_text, texts) if hashes is None else hashes


def _stored(global_: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    """Features as they are kept: normalised, on the CPU, float32 [B, D] and float16 [B, P, D]."""
    return F.normalize(global_, dim=-1).cpu(), F.normalize(local, dim=-1).half().cpu()


def _bar(total: int, title: str, progress: bool) -> tqdm[NoReturn]:
    # disable=None: tqdm draws only on a terminal
    return tqdm(total=total, desc=title, unit="", disable=None if progress and total else True)


def image_items(
    cache: FeatureCache,
    files: Sequence[Path],
    targets: Labels,
    hashes: Sequence[str] | None = None,
    *,
    crops: int = 0,
    progress: bool = True,
) -> ItemSet:
    """Image files [N] with labels [N, C] as items: whole, and as ``crops`` x ``crops`` crops.

    Raises:
        UserError: a file cannot be read, or ``crops`` is 1 or negative.
    """
    boxes = crop_boxes(crops)
    if boxes:
        hashes = cache.reader.hashes(files) if hashes is None else hashes
        cache.embed_images(files, hashes, crops=crops, progress=progress)
    labels = torch.from_numpy(targets)

    def seen(crop: Crop | None) -> ItemSet:
        found = cache.images(files, hashes, crop=crop, progress=progress)
        return ItemSet(found.global_, found.local, None, labels, "image")

    return replace(seen(None), crops=tuple(map(seen, boxes)))
