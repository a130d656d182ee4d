"""Adapters: caches of training images, a bottleneck, or a projection.

The equations, and where they come from, stand in :mod:`t2ipal.method.equations`; here are the
tensors they need and what those start from. All adapters live in image space and see images alone:
``class-cache`` their class features, the others their global features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.method.class_sample import of_classes
from t2ipal.method.equations import (
    bottleneck,
    cache_score,
    class_cache_score,
    projection,
)
from t2ipal.method.head_config import AdapterConfig, BankSelection
from t2ipal.method.prototypes import spherical_kmeans

AGAINST = 32
"""For each key against a class, from how many images without the class it is made."""


class Adapter(nn.Module):
    """A residual on one branch, of the kind that the configuration names.

    Attributes:
        config: the configuration; its kind is not ``none``.
        keys: [N, D] of ``cache`` and ``projection``, trained if the configuration says so.
        values: [N, C] of ``cache``, never trained.
        present, absent: [C, K, D] keys for and against each class of ``class-cache``, trained if
            the configuration says so.
        down, up: [H, D] and [D, H] of ``bottleneck``, trained.
    """

    keys: Tensor
    values: Tensor
    present: Tensor
    absent: Tensor
    down: Tensor
    up: Tensor

    def __init__(self, config: AdapterConfig, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        for name, tensor in tensors.items():
            if name == "values":
                self.register_buffer(name, tensor)
            else:
                trained = name in ("down", "up") or config.learn_keys
                setattr(self, name, nn.Parameter(tensor.detach().clone(), requires_grad=trained))

    @classmethod
    def start(
        cls, config: AdapterConfig, global_: Tensor, targets: Tensor, seed: int = 0
    ) -> Adapter | None:
        """An adapter of global features at its start, or None where none is configured.

        Args:
            global_: [N, D] unit global features of training images.
            targets: [N, C] their labels; every class is shown by some image.
            seed: of equally good images for the bank, and of the bottleneck's weights.
        """
        if config.kind in ("cache", "projection"):
            ranks = _bank_ranks(config.selection, global_, targets)
            rows = _choose_bank(targets, config.per_class, seed, ranks)
            tensors = {"keys": global_[rows]}
            if config.kind == "cache":
                # Counted over all images: in a class-balanced bank no class is as rare as it is.
                counts = _label_counts(targets)[rows]
                tensors["values"] = _cache_values(targets[rows], config.values, counts)
            return cls(config, tensors)
        if config.kind == "bottleneck":
            width = global_.shape[-1]
            hidden = max(1, width // config.reduction)
            generator = torch.Generator().manual_seed(seed)
            down = _linear_start(hidden, width, generator)
            up = _linear_start(width, hidden, generator)
            return cls(config, {"down": down.to(global_.device), "up": up.to(global_.device)})
        return None

    @classmethod
    def start_with_classes(
        cls, config: AdapterConfig, features: Tensor, labels: Tensor, shown: Tensor, classes: int
    ) -> Adapter:
        """``class-cache`` at its start: centres of spherical k-means, for and against each class.

        A class that every image shows has nothing against it: its keys start equal and say nothing.

        Args:
            features: [Q, D] unit class features, one for each (image, class) looked at.
            labels: [Q] the class of each; every class is shown by some image.
            shown: [Q] whether the image shows it.
        """
        pools = [
            (features[own & shown], features[own & ~shown])
            for own in (labels == index for index in range(classes))
        ]
        count = min(config.per_class, max(len(points) for pair in pools for points in pair))
        present, absent = [], []
        for positive, negative in pools:
            present.append(spherical_kmeans(positive, count))
            absent.append(spherical_kmeans(negative, count) if len(negative) else present[-1])
        return cls(config, {"present": torch.stack(present), "absent": torch.stack(absent)})

    def of_features(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """What ``class-cache`` adds to the prototype branch's cosines: alpha s_a [B, S].

        Args:
            z: [B, S, D] unit class features.
            classes: [S] the numbers of the classes, all if None.
        """
        present, absent = (
            F.normalize(of_classes(keys, classes), dim=-1) for keys in (self.present, self.absent)
        )
        return self.config.alpha * class_cache_score(z, present, absent, self.config.beta)

    def forward(self, g: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What becomes of unit global features g [B, D] under a kind that adapts those.

        Returns:
            The feature to compare with the class embeddings, [B, D] of length 1; and what to add to
            its cosines for the numbered ``classes``, alpha s_a [B, S], or None except for
            ``cache``, which keeps the feature.
        """
        config = self.config
        if config.kind == "bottleneck":
            return bottleneck(g, self.down, self.up, config.ratio), None
        keys = F.normalize(self.keys, dim=-1)  # so that their length does not matter
        if config.kind == "projection":
            return projection(g, keys, config.beta, config.ratio), None
        values = of_classes(self.values, classes, dim=1)
        return g, config.alpha * cache_score(g, keys, values, config.beta)


def some_of_each(pairs: Tensor, most: int, seed: int = 0) -> Tensor:
    """Of each class at most ``most`` of the images that are True in bool [N, C], by ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pairs), generator=generator).to(pairs.device)
    chosen = torch.zeros_like(pairs)
    for index in range(pairs.shape[1]):
        chosen[order[pairs[order, index]][:most], index] = True
    return chosen


def _label_counts(targets: Tensor) -> Tensor:
    """How many classes each image shows, float [N], from labels [N, C].

    An unknown label counts as often as its class is present among the images where it is known:
    taking it for absent would make an image with few known labels look like one with few objects.
    """
    present, known = targets.clamp_min(0).float(), targets >= 0
    rates = present.sum(dim=0) / known.sum(dim=0).clamp_min(1)  # [C]
    return present.sum(dim=1) + (~known).float() @ rates


def _cache_values(targets: Tensor, kind: str, counts: Tensor | None = None) -> Tensor:
    """Y [N, C] from labels [N, C] (1 present; absent and unknown count nothing).

    Rows are normalised by ``counts`` [N] (those of ``targets`` if omitted), so that an image with
    many labels says little of each. ``balanced`` then makes every class's column sum to one.
    """
    present = targets.clamp_min(0).float()
    counts = _label_counts(targets) if counts is None else counts
    rows = present / counts[:, None].clamp_min(1)
    if kind == "rows":
        return rows
    return rows / rows.sum(dim=0, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def _bank_ranks(selection: BankSelection, global_: Tensor, targets: Tensor) -> Tensor:
    """How late each image comes when a class chooses images for the bank: [N, C].

    The number of labels; how far the feature [N, D] is from the mean of those that show the class;
    or zeros, which leave the order to chance.
    """
    present = targets.clamp_min(0).float()
    if selection == "fewest-labels":
        return _label_counts(targets)[:, None].expand_as(present)
    if selection == "random":
        return torch.zeros_like(present)
    means = F.normalize(present.T @ global_, dim=-1)  # [C, D]
    return -global_ @ means.T


def _choose_bank(
    targets: Tensor, per_class: int, seed: int = 0, ranks: Tensor | None = None
) -> Tensor:
    """Rows of a class-balanced subset of the images, in ascending order.

    Classes are served from the rarest on; each takes images that show it, those of lowest ``ranks``
    [N, C] first (of the fewest labels if omitted, equal ones by ``seed``), until ``per_class``
    chosen images show it or none is left.
    """
    present = targets > 0  # [N, C]
    counts = present.sum(dim=0)
    shuffled = torch.randperm(len(present), generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled.to(present.device)
    ranks = _label_counts(targets)[:, None].expand_as(present) if ranks is None else ranks
    chosen = torch.zeros(len(present), dtype=torch.bool, device=present.device)
    for index in counts.argsort(stable=True).tolist():
        lacking = per_class - int((chosen & present[:, index]).sum())
        candidates = shuffled[(present[:, index] & ~chosen)[shuffled]]
        candidates = candidates[ranks[candidates, index].argsort(stable=True)]
        chosen[candidates[: max(0, lacking)]] = True
    return chosen.nonzero().squeeze(1)


def _linear_start(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniform in +-1/sqrt(fan in), PyTorch's start of a linear layer."""
    bound = 1 / math.sqrt(columns)
    return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound
