"""From the scores of the branches to one score a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from t2ipal.method.head_config import FusionConfig

EPSILON = 1e-6
"""Least deviation, in logits: equal scores become zeros and not a division by zero."""


def standardise(scores: Tensor) -> Tensor:
    """Subtract each item's mean over the classes and divide by its deviation: [B, C].

    Ranking losses leave an offset and a scale of each image free, but average precision ranks
    images within a class and so depends on both (SPARC, arXiv 2502.16911). With one
    class, or equal scores, the result is zero.
    """
    centred = scores - scores.mean(dim=1, keepdim=True)
    deviation = (centred.square().mean(dim=1, keepdim=True) + EPSILON**2).sqrt()
    return centred / deviation


def fuse_crops(whole: Tensor, crops: Sequence[Tensor], config: FusionConfig) -> Tensor:
    """Scores [B, C] of whole images and of their crops made one; ``whole`` where there are none.

    The best crop counts by ``config.crop_weight`` against the whole image: an object that is small
    in the image is large in some crop, and absent from the others.
    """
    if not crops:
        return whole
    stacked = torch.stack(tuple(crops))  # [V, B, C]
    best = stacked.amax(dim=0) if config.crops == "max" else stacked.mean(dim=0)
    return torch.lerp(whole, best, config.crop_weight)


def fuse(branches: Mapping[str, Tensor], config: FusionConfig) -> Tensor:
    """Weighted sum of the branches [B, C], standardised first if the configuration says so.

    ``branches`` holds those an item has (a caption has no prototype score) by the names of
    ``config.weights``; those of weight 0 are left out.
    """
    used = [
        (weight, branches[name])
        for name, weight in config.weights.items()
        if weight > 0 and name in branches
    ]
    if not used:
        raise ValueError(f"no branch of weight above 0 among {list(branches)}")
    standard = config.kind == "standardised" and used[0][1].shape[1] >= config.min_classes
    return torch.stack(
        [weight * (standardise(scores) if standard else scores) for weight, scores in used]
    ).sum(dim=0)
