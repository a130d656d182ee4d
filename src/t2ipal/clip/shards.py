"""Features on disk: safetensors shards, each naming the items it holds.

A shard holds n items of possibly different numbers of positions::

    global   float32 [n, D]    L2-normalised
    local    float16 [R, D]    L2-normalised, the positions of all items one after another
    offsets  int64   [n + 1]   item i owns the rows offsets[i] : offsets[i + 1]

and its header says which (one JSON text: format, keys, grid, SHA-256), so that no separate index
can fall out of step with the files. A shard is written under a temporary name and renamed; one that
cannot be read whole is removed and its items are computed again. Flipped bits show only in the
checksum, which costs a read of the whole file, so it is compared on request.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from t2ipal.errors import UserError
from t2ipal.files import atomic_path, sha256_text

logger = logging.getLogger(__name__)

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

    Attributes:
        global_: [N, D] float32; of a caption the end-of-text feature.
        local: [N, P, D] float16, of the positions of an image or the tokens of a caption; zeros
            behind the end of a caption. A large one is mapped from disk.
        mask: [N, P] bool, True up to the end of a caption; all True for images.
        grid: (h, w) with h * w = P for images; None for captions.
        computed: how many distinct items were not in the cache before.
    """

    global_: Tensor
    local: Tensor
    mask: Tensor
    grid: tuple[int, int] | None
    computed: int = 0


@dataclass(frozen=True, eq=False)
class _Shard:
    """An open shard; ``local`` stays on disk until rows of it are read (memory map)."""

    path: Path
    keys: tuple[str, ...]
    grid: tuple[int, int] | None
    global_: Tensor  # float32 [n, D]
    local: Tensor  # float16 [R, D]
    offsets: tuple[int, ...]  # n + 1


@dataclass(frozen=True)
class _Place:
    """Where an item lies: its shard and its index in it."""

    shard: _Shard
    index: int

    @property
    def rows(self) -> slice:
        """The item's rows in ``shard.local``."""
        return slice(self.shard.offsets[self.index], self.shard.offsets[self.index + 1])

    @property
    def length(self) -> int:
        """The item's number of positions."""
        return self.shard.offsets[self.index + 1] - self.shard.offsets[self.index]


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
        self._shards: dict[str, _Shard] = {}
        self._places: dict[str, _Place] = {}

    def refresh(self) -> None:
        """Read the headers of shards that are new on disk; drop what cannot be read."""
        for path in sorted(self.folder.glob(f"{self.space}-*.safetensors")):
            if path.name not in self._shards and path.is_file():
                shard = _open(path, self.verify)
                if shard is not None:
                    self._add(shard)
        now = time.time()
        for path in self.folder.glob(f".{self.space}-*.partial*"):
            # Left by a process killed while writing; a living one finishes in seconds.
            if now - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def gather(self, keys: Sequence[str]) -> Features:
        """Features of items in the given order; KeyError if one is not there.

        Large local features lie in an unnamed file in the folder that is mapped into memory, so
        that the operating system can page them out; it is gone when the tensor is.
        """
        places = [self._places[key] for key in keys]
        lengths = torch.tensor([place.length for place in places])
        positions, width = int(lengths.max()), places[0].shard.local.shape[1]
        local = _allocate((len(places), positions, width), self.folder)
        for row, place in enumerate(places):
            local[row, : place.length] = place.shard.local[place.rows]
        return Features(
            torch.stack([place.shard.global_[place.index] for place in places]),
            local,
            torch.arange(positions)[None, :] < lengths[:, None],
            places[0].shard.grid,
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
        self._add(shard)

    def _add(self, shard: _Shard) -> None:
        self._shards[shard.path.name] = shard
        for index, key in enumerate(shard.keys):
            self._places.setdefault(key, _Place(shard, index))


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
            path=path,
            keys=tuple(header["keys"]),
            grid=None if grid is None else (grid[0], grid[1]),
            global_=tensors["global"],
            local=tensors["local"],
            offsets=tuple(tensors["offsets"].tolist()),
        )
        count = len(shard.keys)
        if header["format"] != FORMAT or len(shard.global_) != count:
            raise ValueError("not a shard of this format")
        starts = [0, *shard.offsets[1:-1], len(shard.local)]
        if len(shard.offsets) != count + 1 or sorted(starts) != list(shard.offsets):
            raise ValueError("its offsets do not fit its rows")
        if verify and header.pop("sha256") != _checksum(header, tensors):
            raise ValueError("its content is not what was written")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s): removed, its items are computed again", path, error)
        path.unlink(missing_ok=True)
        return None
    return shard


def _allocate(shape: tuple[int, int, int], folder: Path) -> Tensor:
    count = shape[0] * shape[1] * shape[2]
    if 2 * count <= _IN_MEMORY_BYTES:
        return torch.zeros(shape, dtype=torch.float16)
    path = folder / f".bank-{time.time_ns()}.partial"
    try:
        tensor = torch.from_file(str(path), shared=True, size=count, dtype=torch.float16)
    finally:
        with contextlib.suppress(OSError):  # Windows keeps the name of a mapped file
            path.unlink()  # the mapping keeps the bytes alive, nothing else needs the name
    return tensor.view(shape)
