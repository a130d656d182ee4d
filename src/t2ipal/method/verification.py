"""Does a generated image show its labels, as far as the frozen CLIP can tell?

A text-to-image model leaves out objects of its prompt and adds others (users of such data sets ask
for this check first). CLIP's scores say little in absolute terms but rank the classes of one image,
so evidence is a rank: of a label by the absent classes that outscore it, of an absent class by the
labels that it outscores.

Such a rank may decide (``unknown``, ``drop``) or weigh: ``soft`` keeps every label and gives it the
weight p / (p + r), where r absent classes outscore it and p is the patience.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from t2ipal.method.equations import heatmap, local_score, similarity, standardise
from t2ipal.method.items import ItemSet
from t2ipal.method.train_config import VerifyConfig


def evidence(items: ItemSet, classes: Tensor, temperature: float) -> Tensor:
    """Zero-shot scores [N, C]: global and local, each standardised per image.

    Args:
        classes: [C, D] unit text embeddings.
        temperature: t_s of the class-wise heatmap.
    """
    parts = []
    for batch in items.batches():
        s_g = similarity(batch.global_.to(classes), classes)  # [B, C]
        h = similarity(batch.local.to(classes), classes)  # [B, P, C]
        s_l = local_score(heatmap(h, temperature, batch.mask), h)  # [B, C]
        parts.append(standardise(s_g) + standardise(s_l))
    return torch.cat(parts) if parts else classes.new_zeros(0, len(classes))


def _outscored_by(targets: Tensor, scores: Tensor) -> Tensor:
    """How many absent classes score above each class: [N, C] from labels and scores [N, C]."""
    absent = scores.masked_fill(targets != 0, -torch.inf).sort(dim=1).values
    not_above = torch.searchsorted(absent, scores.contiguous(), right=True)
    return scores.shape[1] - not_above


def doubtful(targets: Tensor, scores: Tensor, patience: int) -> tuple[Tensor, Tensor]:
    """Which labels are not seen, and which absent classes are: bool [N, C] each.

    A label is not seen where more than ``patience`` absent classes outscore it, or half of them if
    they are few (at most (a - 1) / 2 of a absent classes may); an absent class is seen where it
    outscores every label of the image. Unknown labels play no part.
    """
    present, absent = targets == 1, targets == 0
    few = ((absent.sum(dim=1, keepdim=True) - 1) // 2).clamp(0, patience)  # [N, 1]
    missing = present & (_outscored_by(targets, scores) > few)
    best = scores.masked_fill(~present, -torch.inf).amax(dim=1, keepdim=True)
    added = absent & present.any(dim=1, keepdim=True) & (scores > best)
    return missing, added


def verified(items: ItemSet, scores: Tensor, config: VerifyConfig) -> ItemSet:
    """The items with what is doubtful made unknown or soft, or without images that lack a label.

    An image that is left without any label has nothing to teach and is left out. A class whose
    every image would go keeps them all: CLIP does not know it, and that is no fault of the images.
    """
    if config.kind == "none":
        return items
    missing, added = doubtful(items.targets, scores, config.patience)
    if config.kind == "soft":
        weights = config.patience / (config.patience + _outscored_by(items.targets, scores))
        soft = torch.where(items.targets == 1, weights, items.targets)
        return replace(items, targets=soft.masked_fill(added, -1))
    left = ((items.targets == 1) & ~missing).any(dim=0)  # [C]
    missing &= left
    targets = items.targets.masked_fill(missing | added, -1)
    keep = (targets == 1).any(dim=1)
    if config.kind == "drop":
        whole = keep & ~missing.any(dim=1)
        shown = (targets[whole] == 1).any(dim=0)
        keep = whole | (keep & ((targets == 1) & ~shown).any(dim=1))
    kept = ItemSet(items.global_, items.local, items.mask, targets, items.kind)
    return kept.take(keep.nonzero().squeeze(1))
