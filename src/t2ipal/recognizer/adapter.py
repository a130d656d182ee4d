"""Adapters of the global branch: a cache of training images, or a bottleneck on the feature.

``cache`` is Tip-Adapter (Zhang et al., ECCV 2022): features of training images
as keys, their labels as values, s_a = exp(-beta (1 - g F^T)) Y. ``bottleneck`` is CLIP-Adapter
(Gao et al., IJCV 2024): g <- ratio MLP(g) + (1 - ratio) g. Both live in image
space and see images alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.recognizer.config import AdapterConfig
from t2ipal.recognizer.prototypes import refuse_classes_without_image


@dataclass(frozen=True, eq=False)
class Adapted:
    """What an adapter makes of a global feature.

    Attributes:
        global_: [B, D] unit feature to compare with the class embeddings.
        bonus: [B, C] to add to the global cosines, alpha included, or None.
    """

    global_: Tensor
    bonus: Tensor | None


def cache_affinity(global_: Tensor, keys: Tensor, beta: float) -> Tensor:
    """exp(-beta (1 - g F^T)): [B, D] x [N, D] -> [B, N], 1 for equal directions."""
    return torch.exp(-beta * (1 - global_ @ keys.T))


def cache_values(targets: Tensor, kind: str) -> Tensor:
    """Y [N, C] from labels [N, C] (1 present; absent and unknown count nothing).

    Rows are normalised, so that an image with many labels says little of each. ``balanced`` then
    makes every class's column sum to one.
    """
    present = (targets == 1).float()
    rows = present / present.sum(dim=1, keepdim=True).clamp_min(1)
    if kind == "rows":
        return rows
    return rows / rows.sum(dim=0, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def choose_bank(targets: Tensor, per_class: int, names: Sequence[str], seed: int = 0) -> Tensor:
    """Rows of a class-balanced subset of the images, in ascending order.

    Classes are served from the rarest on; each takes images that show it, those with the fewest
    labels first, until ``per_class`` chosen images show it or none is left.

    Raises:
        UserError: no image shows some class.
    """
    present = targets == 1  # [N, C]
    counts = present.sum(dim=0)
    missing = [name for name, n in zip(names, counts.tolist(), strict=True) if n == 0]
    refuse_classes_without_image(missing)
    shuffled = torch.randperm(len(present), generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled.to(present.device)
    order = shuffled[present.sum(dim=1)[shuffled].argsort(stable=True)]  # fewest labels first
    chosen = torch.zeros(len(present), dtype=torch.bool, device=present.device)
    for index in counts.argsort(stable=True).tolist():
        lacking = per_class - int((chosen & present[:, index]).sum())
        candidates = order[present[order, index] & ~chosen[order]]
        chosen[candidates[: max(0, lacking)]] = True
    return chosen.nonzero().squeeze(1)


class CacheAdapter(nn.Module):
    """Tip-Adapter; its keys are trained if the configuration says so, its values never."""

    values: Tensor

    def __init__(self, config: AdapterConfig, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.config = config
        self.keys = nn.Parameter(keys.detach().clone(), requires_grad=config.learn_keys)  # [N, D]
        self.register_buffer("values", values)  # [N, C]

    def forward(self, global_: Tensor) -> Adapted:
        """Leave the feature alone and add alpha s_a to its scores."""
        keys = F.normalize(self.keys, dim=-1)
        affinity = cache_affinity(global_, keys, self.config.beta)
        return Adapted(global_, self.config.alpha * (affinity @ self.values))


class BottleneckAdapter(nn.Module):
    """CLIP-Adapter: two bias-free layers with ReLU, blended with the feature they start from."""

    def __init__(self, config: AdapterConfig, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.config = config
        self.down = nn.Parameter(down.detach().clone())  # [H, D]
        self.up = nn.Parameter(up.detach().clone())  # [D, H]

    def forward(self, global_: Tensor) -> Adapted:
        """Blend the feature with its bottleneck; the scores get no bonus."""
        hidden = F.relu(global_ @ self.down.T)  # [B, H]
        residual = F.relu(hidden @ self.up.T)  # [B, D]
        ratio = self.config.ratio
        return Adapted(F.normalize(ratio * residual + (1 - ratio) * global_, dim=-1), None)


Adapter = CacheAdapter | BottleneckAdapter


def start_adapter(
    config: AdapterConfig, global_: Tensor, targets: Tensor, names: Sequence[str], seed: int = 0
) -> Adapter | None:
    """The adapter at its start, from global features [N, D] and labels [N, C] of training images.

    Raises:
        UserError: the cache is wanted and no image shows some class.
    """
    if config.kind == "cache":
        rows = choose_bank(targets, config.per_class, names, seed)
        return CacheAdapter(config, global_[rows], cache_values(targets[rows], config.values))
    if config.kind == "bottleneck":
        width = global_.shape[-1]
        hidden = max(1, width // config.reduction)
        generator = torch.Generator().manual_seed(seed)
        down = _linear_start(hidden, width, generator).to(global_.device)
        return BottleneckAdapter(config, down, _linear_start(width, hidden, generator).to(down))
    return None


def restore_adapter(config: AdapterConfig, state: Mapping[str, Tensor]) -> Adapter | None:
    """The adapter from its tensors in the saved ``state`` of a head."""
    if config.kind == "cache":
        return CacheAdapter(config, state["adapter.keys"], state["adapter.values"])
    if config.kind == "bottleneck":
        return BottleneckAdapter(config, state["adapter.down"], state["adapter.up"])
    return None


def _linear_start(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniform in +-1/sqrt(fan in), PyTorch's start of a linear layer."""
    bound = 1 / math.sqrt(columns)
    return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound
