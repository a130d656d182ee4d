"""Cached features with labels: what a head is started, trained and evaluated on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from t2ipal.method.train_config import ItemKind

_CHECKED = 4096  # items that are checked together


@dataclass(frozen=True, eq=False)
class ItemSet:
    """N items of one kind; features may be float16 and are unit vectors.

    Attributes:
        global_: [N, D] image features, or EOS features of captions.
        local: [N, P, D] features of positions, or of a caption's tokens.
        mask: [N, P] True on real positions, or None if all are.
        targets: [N, C], 1 present, 0 absent, -1 unknown; int8, or float32 where some labels are
            soft: between 0 and 1, present with that weight.
        kind: "image" or "caption".
        crops: crops of the same images, one set for each place of the crop, to be scored with them;
            none where only the whole images count, as in training.

    Raises:
        ValueError: shapes disagree, features are not normalised, or an item has no position.
    """

    global_: Tensor
    local: Tensor
    mask: Tensor | None
    targets: Tensor
    kind: ItemKind
    crops: tuple[ItemSet, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(ItemKind):
            raise ValueError(f"kind must be image or caption, not {self.kind!r}")
        check_features(self.global_, self.local, self.mask)
        if self.targets.ndim != 2 or len(self.targets) != len(self.global_):
            raise ValueError(
                f"targets have shape {list(self.targets.shape)}; expected [{len(self.global_)}, C]"
            )
        for part in torch.split(self.targets, _CHECKED):
            if bool((((part >= 0) & (part <= 1)) | (part == -1)).all()):
                continue
            raise ValueError("targets must be 1 (present), 0 (absent), between, or -1 (unknown)")
        if any(len(crop) != len(self) or crop.kind != self.kind for crop in self.crops):
            raise ValueError("each set of crops must hold the same items")

    def __len__(self) -> int:
        return len(self.global_)

    def whole(self) -> ItemSet:
        """The set without its crops."""
        return replace(self, crops=()) if self.crops else self

    def take(self, rows: Tensor | slice) -> ItemSet:
        """The items at ``rows`` [n], in that order; of a slice they are not copied."""
        mask = None if self.mask is None else self.mask[rows]
        crops = tuple(crop.take(rows) for crop in self.crops)
        return ItemSet(
            self.global_[rows], self.local[rows], mask, self.targets[rows], self.kind, crops
        )

    def batches(self, size: int = 256) -> Iterator[ItemSet]:
        """The items in order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self.take(torch.arange(first, min(first + size, len(self))))

    @staticmethod
    def join(sets: Sequence[ItemSet]) -> ItemSet:
        """All items of ``sets`` in order, without crops; positions are padded to the longest set.

        Raises:
            ValueError: there is no set, or they are not of one kind.
        """
        kinds = sorted({items.kind for items in sets})
        if len(kinds) != 1:
            raise ValueError(f"only sets of one kind can be joined, not {kinds}")
        if len(sets) == 1:
            return sets[0]
        longest = max(items.local.shape[1] for items in sets)
        padded = any(items.mask is not None or items.local.shape[1] < longest for items in sets)
        locals_, masks = [], []
        for items in sets:
            padding = longest - items.local.shape[1]
            mask = items.mask
            if mask is None:
                mask = items.local.new_ones(items.local.shape[:2], dtype=torch.bool)
            locals_.append(F.pad(items.local, (0, 0, 0, padding)))
            masks.append(F.pad(mask, (0, padding)))
        return ItemSet(
            torch.cat([items.global_ for items in sets]),
            torch.cat(locals_),
            torch.cat(masks) if padded else None,
            torch.cat([items.targets for items in sets]),
            kinds[0],
        )


def check_features(
    global_: Tensor, local: Tensor, mask: Tensor | None, embedding_width: int | None = None
) -> None:
    """Raise a ValueError that names the tensor, its shape and what was expected.

    With ``embedding_width``, features must be as wide as the class embeddings. Lengths are checked
    on the global features and the first position alone: a whole pass over the local features would
    cost as much as scoring them.
    """
    if global_.ndim != 2:
        raise ValueError(f"global features have shape {list(global_.shape)}; expected [B, D]")
    count, width = global_.shape
    if local.ndim != 3 or local.shape[0] != count or local.shape[2] != width or not local.shape[1]:
        raise ValueError(
            f"local features have shape {list(local.shape)}; expected [{count}, P, {width}] with "
            f"P >= 1, as global features have shape {list(global_.shape)}"
        )
    if mask is not None:
        if mask.dtype != torch.bool or mask.shape != local.shape[:2]:
            raise ValueError(
                f"mask is {mask.dtype} of shape {list(mask.shape)}; expected bool of "
                f"{list(local.shape[:2])}"
            )
        if not bool(mask.any(dim=1).all()):
            raise ValueError("an item has no real position: its row of the mask has no True")
    if torch.compiler.is_exporting():
        return  # values are not there yet
    first = local[:, 0]
    for start in range(0, count, _CHECKED):
        part = slice(start, start + _CHECKED)
        there = first[part] if mask is None else first[part][mask[part, 0]]
        for name, features in (("global", global_[part]), ("local", there)):
            lengths = features.float().norm(dim=-1)
            # Normalising a zero vector leaves it zero; float16 rounds lengths by less than 1e-3.
            if not bool((((lengths - 1).abs() < 1e-2) | (lengths == 0)).all()):
                raise ValueError(
                    f"{name} features are not L2-normalised: divide them by their length"
                )
    if embedding_width is not None and width != embedding_width:
        raise ValueError(
            f"features are {width} wide but class embeddings {embedding_width}: they come from "
            "different models"
        )
