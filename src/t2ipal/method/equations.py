"""The forward pass of T2I-PAL, one function per equation, in the order in which they are applied.

Feng et al., "Text to Image for Multi-Label Image Recognition with Joint Prompt-Adapter Learning",
IEEE TPAMI 2025, arXiv 2506.10575; it builds on TaI-DPT (Guo et al., CVPR 2023). docs/method.md says
what the paper states and what it leaves open.

    g    [B, D]     global feature of an image, or the EOS feature of a caption
    L    [B, P, D]  local features: positions of an image, or tokens of a caption
    G    [C, D]     class embeddings under the global context
    Lc   [C, D]     class embeddings under the local context
    R    [C, K, D]  prototypes
    F    [N, D]     keys of the adapter's cache, Y [N, C] its values; F+, F- [C, K, D] per class
    s_*  [B, C]     scores: s_g global, s_l local, s_p prototype, s_a adapter

Features, class embeddings and keys have length 1, so that every product of two is a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from t2ipal.method.head_config import FusionConfig, PrototypeConfig

EPSILON = 1e-6
"""Least deviation of :func:`standardise`, in logits: equal scores become zeros, not nan."""


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """s_g = g G^T and h = L Lc^T, the cosines that everything starts from (CLIP; TaI-DPT)."""
    return x @ y.T  # [B, D] x [C, D] -> [B, C]; [B, P, D] x [C, D] -> [B, P, C]


def heatmap(h: Tensor, t_s: float, mask: Tensor | None = None) -> Tensor:
    """A = softmax over positions of h / t_s: the class-wise heatmap (T2I-PAL; TaI-DPT).

    A sums to one over P. ``t_s`` = inf weighs all positions alike, for every class. ``mask`` [B, P]
    is True on real positions, at least one per item; the others get weight 0.
    """
    logits = h / t_s  # [B, P, C]
    if mask is not None:
        logits = logits.masked_fill(~mask[..., None], torch.finfo(logits.dtype).min)
    return logits.softmax(dim=1)  # [B, P, C]


def local_score(A: Tensor, h: Tensor) -> Tensor:
    """s_l = sum over positions of A * h, the aggregated local similarity (T2I-PAL; TaI-DPT)."""
    return (A * h).sum(dim=1)  # [B, P, C] -> [B, C]


def class_feature(A: Tensor, L: Tensor) -> Tensor:
    """z = normalise(sum over positions of A L): what an item shows of each class (this project)."""
    return normalize(A.transpose(1, 2) @ L, dim=-1)  # [B, C, P] @ [B, P, D] -> [B, C, D]


def prototype_score(z: Tensor, R: Tensor, config: PrototypeConfig) -> Tensor:
    """s_p: the cosines of z_c to the K prototypes R_c of its class, made one (form: this project).

    smooth-max is t log mean_k exp(<z_c, R_ck> / t): the mean as t grows, the maximum as t vanishes.
    """
    cosines = torch.einsum("bcd,ckd->bck", z, normalize(R, dim=-1))  # [B, C, K]
    if config.aggregation == "max":
        return cosines.amax(dim=-1)  # [B, C]
    if config.aggregation == "mean":
        return cosines.mean(dim=-1)  # [B, C]
    return _smooth_maximum(cosines, config.temperature)  # [B, C]


def _smooth_maximum(values: Tensor, t: float) -> Tensor:
    """t log mean exp(v / t) over the last axis; v itself where that has one entry."""
    return t * ((values / t).logsumexp(dim=-1) - math.log(values.shape[-1]))


def cache_score(g: Tensor, F: Tensor, Y: Tensor, beta: float) -> Tensor:
    """s_a = exp(-beta (1 - g F^T)) Y, then s_g <- s_g + alpha s_a (Tip-Adapter, ECCV 2022).

    The affinity of two features is 1 where their directions are equal.
    """
    affinity = torch.exp(-beta * (1 - g @ F.T))  # [B, N]
    return affinity @ Y  # [B, C]


def class_cache_score(z: Tensor, present: Tensor, absent: Tensor, beta: float) -> Tensor:
    """s_a = log mean_k exp(beta <z_c, F+_ck>) / beta - log mean_k exp(beta <z_c, F-_ck>) / beta.

    Then s_p <- s_p + alpha s_a. Tip-Adapter's affinities, of class features in place of global ones
    (form: this project): how much more the evidence for c looks like that in images that show c,
    F+ [C, K, D], than like that in images that do not, F- [C, K, D].
    """
    scores = []
    for keys in (present, absent):
        cosines = torch.einsum("bcd,ckd->bck", z, keys)  # [B, C, K]
        scores.append(_smooth_maximum(cosines, 1 / beta))
    return scores[0] - scores[1]  # [B, C]


def bottleneck(g: Tensor, down: Tensor, up: Tensor, ratio: float) -> Tensor:
    """g <- normalise(ratio MLP(g) + (1 - ratio) g) (CLIP-Adapter, Gao et al., IJCV 2024).

    The MLP has two layers without bias, ``down`` [H, D] and ``up`` [D, H].
    """
    hidden = relu(g @ down.T)  # [B, H]
    residual = relu(hidden @ up.T)  # [B, D]
    return normalize(ratio * residual + (1 - ratio) * g, dim=-1)  # [B, D]


def projection(g: Tensor, F: Tensor, beta: float, ratio: float) -> Tensor:
    """g <- normalise(ratio normalise(softmax(beta g F^T) F) + (1 - ratio) g).

    The feature is pulled towards the keys that it resembles (DeCap, Li et al., ICLR 2023; CoMC
    blends so at test time).
    """
    weights = (beta * g @ F.T).softmax(dim=-1)  # [B, N]
    projected = normalize(weights @ F, dim=-1)  # [B, D]
    return normalize(ratio * projected + (1 - ratio) * g, dim=-1)  # [B, D]


def moments(s: Tensor) -> tuple[Tensor, Tensor]:
    """Each item's mean and deviation over the classes: [B, 1] each, of scores [B, C]."""
    mean = s.mean(dim=1, keepdim=True)
    return mean, ((s - mean).square().mean(dim=1, keepdim=True) + EPSILON**2).sqrt()


def standardise(s: Tensor, among: Tensor | None = None) -> Tensor:
    """Subtract each item's mean over the classes and divide by its deviation (SPARC, 2502.16911).

    Ranking losses leave an offset and a scale of each image free, but average precision ranks
    images within a class and so depends on both. One class, or equal scores, give zeros.

    Args:
        s: [B, C].
        among: [B, C'], the classes whose mean and deviation count; those of ``s`` if omitted.
    """
    mean, deviation = moments(s if among is None else among)
    return (s - mean) / deviation  # [B, C]


def fuse(
    branches: Mapping[str, Tensor],
    config: FusionConfig,
    among: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """s = w_g s_g + w_l s_l + w_p s_p, raw (TaI-DPT) or each branch standardised first (SPARC).

    ``branches`` holds the scores that an item has (a caption has no prototype score), by the names
    of ``config.weights``; those of weight 0 are left out. Fewer than ``config.min_classes`` classes
    are always summed raw. ``among`` holds the branches of the classes that are counted and that
    standardising is over, if these are others.
    """
    weights = {n: w for n, w in config.weights.items() if w > 0 and n in branches}
    if not weights:
        raise ValueError(f"no branch of weight above 0 among {list(branches)}")
    among = branches if among is None else among
    classes = next(iter(among.values())).shape[1]
    standard = config.kind == "standardised" and classes >= config.min_classes
    parts = [
        w * (standardise(branches[n], among[n]) if standard else branches[n])
        for n, w in weights.items()
    ]
    return torch.stack(parts).sum(dim=0)


def fuse_crops(s: Tensor, crops: Sequence[Tensor], config: FusionConfig) -> Tensor:
    """s <- (1 - w) s + w max over crops of s_crop (TagCLIP, AAAI 2024; SPARC).

    w is ``config.crop_weight``; ``config.crops`` may name the mean in place of the maximum. An
    object that is small in the image is large in some crop, and absent from the others. Without
    crops the scores stay as they are.
    """
    if not crops:
        return s
    stacked = torch.stack(tuple(crops))  # [V, B, C]
    best = stacked.amax(dim=0) if config.crops == "max" else stacked.mean(dim=0)  # [B, C]
    return torch.lerp(s, best, config.crop_weight)  # [B, C]
