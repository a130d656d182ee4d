"""Class-wise heatmap: where the local features of an item speak for each class.

After TaI-DPT (Guo et al., CVPR 2023) and T2I-PAL (Feng et al., TPAMI 2025): a softmax over
positions of the similarity to a class pools the similarity itself into the local score, and the
local features into a feature of that class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def similarity_map(local: Tensor, classes: Tensor) -> Tensor:
    """h = L Lc^T, cosines of local features and classes: [B, P, D] x [C, D] -> [B, P, C]."""
    return local @ classes.T


def attention(similarity: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """A = softmax over positions of h / t_s: [B, P, C], summing to one over P.

    ``mask`` [B, P] is True on real positions; the others get weight 0. A row of ``mask`` without a
    True has no meaning and is refused where items are made.
    """
    logits = similarity / temperature
    if mask is not None:
        logits = logits.masked_fill(~mask[..., None], torch.finfo(logits.dtype).min)
    return logits.softmax(dim=1)


def uniform_attention(similarity: Tensor, mask: Tensor | None = None) -> Tensor:
    """The heatmap switched off: every real position weighs the same for every class, [B, P, C]."""
    return attention(torch.zeros_like(similarity), 1.0, mask)


def local_score(weights: Tensor, similarity: Tensor) -> Tensor:
    """s_l = sum over P of A * h: [B, C]."""
    return (weights * similarity).sum(dim=1)


def class_features(weights: Tensor, local: Tensor) -> Tensor:
    """z = normalise(sum over P of A L): [B, C, D], what the item shows of each class."""
    return F.normalize(weights.transpose(1, 2) @ local, dim=-1)  # [B, C, P] @ [B, P, D]
