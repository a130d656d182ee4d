"""Embedding on a Ray cluster: each worker holds a CLIP, and a unit of work is one feature shard.

The units are the shards that one process would write, so the files are the same. A worker writes
them itself, whole or not at all; a unit that is done twice writes the same file twice.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.features import FeatureCache
from t2ipal.clip.image_reader import View
from t2ipal.errors import UserError
from t2ipal.files.broken import Broken
from t2ipal.files.row_file import Lazy
from t2ipal.parallel.cluster import Cluster, missing_of


class _Embedder:
    """A worker: its CLIP, which must compute what the run's own does."""

    def __init__(
        self,
        load: Callable[[], Backbone],
        folder: Path,
        spaces: tuple[str, str],
        batch_size: int,
        broken: Broken,
    ) -> None:
        host = socket.gethostname()
        if not folder.is_dir():
            raise UserError(
                f"{folder}: does not exist on {host}; with --engine ray, images and features must "
                "lie on a file system that all nodes share."
            )
        backbone = load()
        if (backbone.image_space, backbone.text_space) != spaces:
            raise UserError(
                f"{backbone.spec}: {host} has other weights or another precision "
                f"({backbone.precision}) than the node of the run; give --precision, and the same "
                "model to all nodes."
            )
        self.batch_size = batch_size
        self.cache = FeatureCache(folder, backbone, broken=broken)

    def do(self, unit: tuple[Sequence[View], Sequence[str]]) -> tuple[int, int, dict[str, str]]:
        """Write the shard of these images, or of these captions; how many there were of each, and
        the images that cannot be read."""
        views, captions = unit
        images = 0
        if views:
            images = self.cache.compute_images(views, batch_size=self.batch_size)
        if captions:
            self.cache.compute_captions(captions)
        return images, len(captions), self.cache.broken.reasons


def embed_on(
    cluster: Cluster,
    cache: FeatureCache,
    load: Callable[[], Backbone],
    files: Sequence[Path],
    hashes: Sequence[str],
    texts: Sequence[str],
    batch_size: int,
) -> tuple[int, int]:
    """Bring images and captions into ``cache`` with the workers of ``cluster``.

    Args:
        load: picklable; loads the backbone of ``cache`` in a worker.
        files, hashes: images, as :meth:`FeatureCache.images` takes them.
        texts: captions; there may be none.

    Returns:
        How many images and how many captions were computed.

    Raises:
        UserError: some were not computed, and why; finished shards are kept.
    """
    missing = cache.missing_images(files, hashes)
    missing_texts = cache.missing_captions(texts) if texts else ()
    shards = cache.image_shards(missing, batch_size)
    text_shards = cache.caption_shards(missing_texts)

    def unit(n: int) -> tuple[Sequence[View], Sequence[str]]:
        return (shards[n], ()) if n < len(shards) else ((), text_shards[n - len(shards)])

    units = Lazy(len(shards) + len(text_shards), unit)
    if not units:
        return 0, 0
    cache.folder.mkdir(parents=True, exist_ok=True)
    backbone = cache.backbone
    spaces = (backbone.image_space, backbone.text_space)
    make = partial(_Embedder, load, cache.folder.resolve(), spaces, batch_size, cache.broken)
    images, captions, errors = 0, 0, []
    with tqdm(total=len(missing), desc="embedding images", unit="", disable=None) as bar:
        for outcome in cluster.spread(units, make, gpus=backbone.device.type == "cuda"):
            if outcome.error:
                errors.append(outcome.error)
                continue
            images, captions = images + outcome.result[0], captions + outcome.result[1]
            cache.broken.reasons.update(outcome.result[2])
            bar.update(outcome.result[0])
    if images + len(cache.broken) < len(missing):
        raise missing_of("new images", len(missing) - images, len(missing), errors)
    if captions < len(missing_texts):
        lost = len(missing_texts) - captions
        raise missing_of("new captions", lost, len(missing_texts), errors)
    return images, captions
