"""Shards: every item is found again, whatever is added, asked for twice or removed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from t2ipal.clip.shards import Item, ShardFolder
from t2ipal.errors import UserError


def items(keys: list[str], seed: int) -> list[Item]:
    """Captions of 1 to 5 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (len(keys),), generator=generator).tolist()
    unit = [F.normalize(torch.randn(n + 1, 3, generator=generator), dim=-1) for n in lengths]
    return [Item(key, one[0], one[1:].half()) for key, one in zip(keys, unit, strict=True)]


def test_items_of_many_shards_are_gathered_in_any_order(tmp_path: Path) -> None:
    first, second = items(["a", "b", "c"], 0), items(["d", "b"], 1)
    folder = ShardFolder(tmp_path, "captions-x")
    folder.write(first, None)
    assert folder.find(["b", "d"]).tolist() == [1, -1]
    folder.write(second, None)
    folder.write(second, None)  # of another process, say
    known = {item.key: item for item in (*second, *first)}
    for reopened in (False, True):
        if reopened:
            folder = ShardFolder(tmp_path, "captions-x")
            folder.refresh()
            known["b"] = first[1] if _first_file(tmp_path) == ["a", "b", "c"] else second[1]
        for keys in (["d", "a", "b", "d"], ["c"], ["b", "c", "a"]):
            found = folder.gather(folder.find(keys))
            assert found.mask is not None and found.grid is None
            for row, key in enumerate(keys):
                length = len(known[key].local)
                assert torch.equal(found.global_[row], known[key].global_)
                assert torch.equal(found.local[row, :length], known[key].local)
                assert not found.local[row, length:].any()
                assert found.mask[row].tolist() == [True] * length + [False] * (
                    found.local.shape[1] - length
                )
    with pytest.raises(ValueError, match="only items that are there"):
        folder.gather(folder.find(["a", "e"]))
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="has changed while it was in use; run the command again"):
        folder.gather(folder.find(["a"]))


def _first_file(folder: Path) -> list[str]:
    content = min(folder.iterdir()).read_bytes()
    return ["a", "b", "c"] if b'\\"a\\"' in content else ["d", "b"]
