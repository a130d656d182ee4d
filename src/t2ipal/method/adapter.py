"""Adapters of the global branch: a cache of training images, a bottleneck, or a projection.

``cache`` is Tip-Adapter (Zhang et al., ECCV 2022): features of training images
as keys, their labels as values, s_a = exp(-beta (1 - g F^T)) Y. ``bottleneck`` is CLIP-Adapter
(Gao et al., IJCV 2024): g <- ratio MLP(g) + (1 - ratio) g. ``projection`` replaces the MLP by the
training images that g resembles (DeCap, Li et al., ICLR 2023; CoMC blends so at test time):
g <- ratio softmax(beta g F^T) F + (1 - ratio) g. All live in image space and see images alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.method.head_config import AdapterConfig, BankSelection
from t2ipal.method.prototypes import refuse_classes_without_image


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


def label_counts(targets: Tensor) -> Tensor:
    """How many classes each image shows, float [N], from labels [N, C].

    An unknown label counts as often as its class is present among the images where it is known:
    taking it for absent would make an image with few known labels look like one with few objects.
    """
    present, known = targets.clamp_min(0).float(), targets >= 0
    rates = present.sum(dim=0) / known.sum(dim=0).clamp_min(1)  # [C]
    return present.sum(dim=1) + (~known).float() @ rates


def cache_values(targets: Tensor, kind: str, counts: Tensor | None = None) -> Tensor:
    """Y [N, C] from labels [N, C] (1 present; absent and unknown count nothing).

    Rows are normalised by ``counts`` [N] (those of ``targets`` where not given), so that an image
    with many labels says little of each. ``balanced`` then makes every class's column sum to one.
    """
    present = targets.clamp_min(0).float()
    counts = label_counts(targets) if counts is None else counts
    rows = present / counts[:, None].clamp_min(1)
    if kind == "rows":
        return rows
    return rows / rows.sum(dim=0, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def bank_ranks(selection: BankSelection, global_: Tensor, targets: Tensor) -> Tensor:
    """How late each image comes when a class chooses images for the bank: [N, C].

    The number of labels; how far the feature [N, D] is from the mean of those that show the class;
    or zeros, which leave the order to chance.
    """
    present = targets.clamp_min(0).float()
    if selection == "fewest-labels":
        return label_counts(targets)[:, None].expand_as(present)
    if selection == "random":
        return torch.zeros_like(present)
    means = F.normalize(present.T @ global_, dim=-1)  # [C, D]
    return -global_ @ means.T


def choose_bank(
    targets: Tensor,
    per_class: int,
    names: Sequence[str],
    seed: int = 0,
    ranks: Tensor | None = None,
) -> Tensor:
    """Rows of a class-balanced subset of the images, in ascending order.

    Classes are served from the rarest on; each takes images that show it, those of lowest ``ranks``
    [N, C] first (of the fewest labels where not given, equal ones by ``seed``), until ``per_class``
    chosen images show it or none is left.

    Raises:
        UserError: no image shows some class.
    """
    present = targets > 0  # [N, C]
    counts = present.sum(dim=0)
    missing = [name for name, n in zip(names, counts.tolist(), strict=True) if n == 0]
    refuse_classes_without_image(missing)
    shuffled = torch.randperm(len(present), generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled.to(present.device)
    ranks = label_counts(targets)[:, None].expand_as(present) if ranks is None else ranks
    chosen = torch.zeros(len(present), dtype=torch.bool, device=present.device)
    for index in counts.argsort(stable=True).tolist():
        lacking = per_class - int((chosen & present[:, index]).sum())
        candidates = shuffled[(present[:, index] & ~chosen)[shuffled]]
        candidates = candidates[ranks[candidates, index].argsort(stable=True)]
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


class ProjectionAdapter(nn.Module):
    """The feature drawn towards those training images that it resembles."""

    def __init__(self, config: AdapterConfig, keys: Tensor) -> None:
        super().__init__()
        self.config = config
        self.keys = nn.Parameter(keys.detach().clone(), requires_grad=config.learn_keys)  # [N, D]

    def forward(self, global_: Tensor) -> Adapted:
        """Blend the feature with its projection onto the bank; the scores get no bonus."""
        keys = F.normalize(self.keys, dim=-1)
        weights = (self.config.beta * global_ @ keys.T).softmax(dim=-1)  # [B, N]
        projected = F.normalize(weights @ keys, dim=-1)
        ratio = self.config.ratio
        return Adapted(F.normalize(ratio * projected + (1 - ratio) * global_, dim=-1), None)


Adapter = CacheAdapter | BottleneckAdapter | ProjectionAdapter


def start_adapter(
    config: AdapterConfig, global_: Tensor, targets: Tensor, names: Sequence[str], seed: int = 0
) -> Adapter | None:
    """The adapter at its start, from global features [N, D] and labels [N, C] of training images.

    Raises:
        UserError: a bank of images is wanted and no image shows some class.
    """
    if config.kind in ("cache", "projection"):
        ranks = bank_ranks(config.selection, global_, targets)
        rows = choose_bank(targets, config.per_class, names, seed, ranks)
        if config.kind == "projection":
            return ProjectionAdapter(config, global_[rows])
        # Counted over all images: in a class-balanced bank no class is as rare as it is.
        values = cache_values(targets[rows], config.values, label_counts(targets)[rows])
        return CacheAdapter(config, global_[rows], values)
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
    if config.kind == "projection":
        return ProjectionAdapter(config, state["adapter.keys"])
    if config.kind == "bottleneck":
        return BottleneckAdapter(config, state["adapter.down"], state["adapter.up"])
    return None


def _linear_start(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniform in +-1/sqrt(fan in), PyTorch's start of a linear layer."""
    bound = 1 / math.sqrt(columns)
    return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound
