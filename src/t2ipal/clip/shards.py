"""Features on disk: safetensors shards, each naming the items it holds.

A shard holds n items of possibly different numbers of positions::

    global   float32 [n, D]    L2-normalised
    local    float16 [R, D]    L2-normalised, the positions of all items one after another
    offsets  int64   [n + 1]   item i owns the rows offsets[i] : offsets[i + 1]

and its header says which (one JSON text: format, keys, grid, SHA-256), so that no separate index
can fall out of step with the files. A shard is written under a temporary name and renamed; one that
cannot be read whole is removed and its items are computed again. Flipped bits show only in the
checksum, which costs a read of the whole file, so it is compared on request.

Of an item that lies on disk 28 bytes are in memory: where it is. Shards are opened while features
are gathered from them, one at a time: a system maps some 65,000 files at most.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from t2ipal.errors import UserError
from t2ipal.files import atomic_path, sha256_text
from t2ipal.files.row_file import KeyIndex, Positions

logger = logging.getLogger(__name__)

Lengths = npt.NDArray[np.int32]

FORMAT = "t2ipal-features-2"
_IN_MEMORY_BYTES = 256 * 2**20
_ABANDONED_SECONDS = 60


@dataclass(frozen=True)
class Item:
    """Features of one image or caption, on the CPU: global [D] float32, local [P, D] float16."""

    key: str
    global_: Tensor
    local: Tensor

    @property
    def nbytes(self) -> int:
        return self.global_.nbytes + self.local.nbytes


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N images or captions in the order asked for, on the CPU, L2-normalised.

    Large tensors are mapped from disk.

    Attributes:
        global_: [N, D] float32; of a caption the end-of-text feature.
        local: [N, P, D] float16, of the positions of an image or the tokens of a caption; zeros
            behind the end of a caption.
        mask: [N, P] bool, True up to the end of a caption; None for images.
        grid: (h, w) with h * w = P for images; None for captions.
        computed: how many distinct items were not in the cache before.
    """

    global_: Tensor
    local: Tensor
    mask: Tensor | None
    grid: tuple[int, int] | None
    computed: int = 0


@dataclass(frozen=True, eq=False)
class _Shard:
    """An open shard; ``local`` stays on disk until rows of it are read (memory map)."""

    keys: tuple[str, ...]
    grid: tuple[int, int] | None
    global_: Tensor  # float32 [n, D]
    local: Tensor  # float16 [R, D]
    offsets: Tensor  # int64 [n + 1]


class ShardFolder:
    """All shards of one feature space (kind, backbone, preprocessing) in a folder.

    Files are called ``<space>-<hash of the keys>.safetensors``: the same items give the same file,
    another space never sees it, and several processes can write side by side.
    """

    def __init__(self, folder: str | Path, space: str, verify: bool = False) -> None:
        """``verify``: compare each shard that is found with its checksum."""
        self.folder = Path(folder)
        self.space = space
        self.verify = verify
        self._names: dict[str, None] = {}  # of the shards' files, in the order of ``_starts``
        self._starts = array("q", [0])  # the number of each shard's first item, and of all items
        self._lengths = array("i")  # positions of each item
        self._keys = KeyIndex(first=True)

    def refresh(self) -> None:
        """Read the headers of shards that are new on disk; drop what cannot be read."""
        for path in sorted(self.folder.glob(f"{self.space}-*.safetensors")):
            if path.name not in self._names and path.is_file():
                shard = _open(path, self.verify)
                if shard is not None:
                    self._add(path, shard)
        now = time.time()
        for path in self.folder.glob(f".{self.space}-*.partial*"):
            # Left by a process killed while writing; a living one finishes in seconds.
            if now - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)

    def find(self, keys: Iterable[str]) -> Positions:
        """The number of each item in this folder, which it keeps; -1 where there is none."""
        return self._keys.find(keys)

    def gather(self, places: Positions) -> Features:
        """Features of the items of these numbers, in that order.

        Large tensors lie in unnamed files in the folder that are mapped into memory, so that the
        operating system can page them out; they are gone when the tensors are.

        Raises:
            UserError: a shard was removed or damaged meanwhile.
        """
        if not len(places) or places.min() < 0:
            raise ValueError("only items that are there can be gathered")
        order = np.argsort(places, kind="stable")
        bounds = np.searchsorted(places[order], self._starts)  # shard by shard
        lengths = np.asarray(self._lengths)[places]
        features: Features | None = None
        names = list(self._names)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            path, start = self.folder / names[number], self._starts[number]
            shard = _open(path)
            if shard is None or len(shard.keys) != self._starts[number + 1] - start:
                raise UserError(f"{path}: has changed while it was in use; run the command again.")
            if features is None:
                features = self._allocate(lengths, shard)
            rows = order[bounds[number] : bounds[number + 1]]
            items = places[rows] - start
            features.global_[torch.from_numpy(rows)] = shard.global_[torch.from_numpy(items)]
            target, source = features.local.numpy(), shard.local.numpy()
            firsts = shard.offsets.numpy()[items]
            for row, first, length in zip(rows, firsts, lengths[rows], strict=True):
                target[row, :length] = source[first : first + length]
        assert features is not None
        return features

    def _allocate(self, lengths: Lengths, like: _Shard) -> Features:
        """Features of items of so many positions, all zeros."""
        count, positions, width = len(lengths), int(lengths.max()), like.global_.shape[1]
        mask = None
        if like.grid is None:
            mask = _zeros((count, positions), torch.bool, self.folder)
            torch.lt(torch.arange(positions), torch.from_numpy(lengths)[:, None], out=mask)
        return Features(
            _zeros((count, width), torch.float32, self.folder),
            _zeros((count, positions, width), torch.float16, self.folder),
            mask,
            like.grid,
        )

    def write(self, items: Sequence[Item], grid: tuple[int, int] | None) -> None:
        """Write one shard of ``items``, whole or not at all, and add it to this folder's items.

        Raises:
            UserError: the folder cannot be written (no space, no permission).
        """
        lengths = [0] + [len(item.local) for item in items]
        tensors = {
            "global": torch.stack([item.global_ for item in items]),
            "local": torch.cat([item.local for item in items]),
            "offsets": torch.tensor(lengths).cumsum(0),
        }
        keys = [item.key for item in items]
        header = {"format": FORMAT, "grid": grid, "keys": keys}
        header["sha256"] = _checksum(header, tensors)
        path = self.folder / f"{self.space}-{sha256_text(*keys)[:16]}.safetensors"
        try:
            with atomic_path(path) as temporary:
                # One entry: safetensors writes several in an order that changes from run to run.
                save_file(tensors, temporary, metadata={"t2ipal": json.dumps(header)})
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path}: features cannot be written ({error}); free some space, check "
                "permissions or name another folder with --features, then run the command again: "
                "finished shards are kept."
            ) from error
        shard = _open(path)
        if shard is None:
            raise UserError(f"{path}: could not be read back after writing; check the disk.")
        self._add(path, shard)

    def _add(self, path: Path, shard: _Shard) -> None:
        if path.name not in self._names:
            self._names[path.name] = None
            self._starts.append(self._starts[-1] + len(shard.keys))
            self._lengths.extend(shard.offsets.diff().tolist())
            self._keys.add(*shard.keys)


def _checksum(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 in hex of a shard's header, without the checksum, and its tensors."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for name in ("global", "local", "offsets"):
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _open(path: Path, verify: bool = False) -> _Shard | None:
    """Open a shard, or remove it and return None if it is truncated or damaged."""
    try:
        with safe_open(path, framework="pt") as reader:
            header = json.loads(reader.metadata()["t2ipal"])
            tensors = {name: reader.get_tensor(name) for name in ("global", "local", "offsets")}
        grid = header["grid"]
        shard = _Shard(
            keys=tuple(header["keys"]),
            grid=None if grid is None else (grid[0], grid[1]),
            global_=tensors["global"],
            local=tensors["local"],
            offsets=tensors["offsets"],
        )
        count = len(shard.keys)
        if header["format"] != FORMAT or len(shard.global_) != count:
            raise ValueError("not a shard of this format")
        starts = [0, *shard.offsets[1:-1].tolist(), len(shard.local)]
        if len(shard.offsets) != count + 1 or sorted(starts) != shard.offsets.tolist():
            raise ValueError("its offsets do not fit its rows")
        if verify and header.pop("sha256") != _checksum(header, tensors):
            raise ValueError("its content is not what was written")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s): removed, its items are computed again", path, error)
        path.unlink(missing_ok=True)
        return None
    return shard


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> Tensor:
    """A tensor of zeros, in an unnamed file in ``folder`` if it is large."""
    count = math.prod(shape)
    if count * dtype.itemsize <= _IN_MEMORY_BYTES:
        return torch.zeros(shape, dtype=dtype)
    path = folder / f".bank-{time.time_ns()}.partial"
    try:
        tensor = torch.from_file(str(path), shared=True, size=count, dtype=dtype)
    finally:
        with contextlib.suppress(OSError):  # Windows keeps the name of a mapped file
            path.unlink()  # the mapping keeps the bytes alive, nothing else needs the name
    return tensor.view(shape)
