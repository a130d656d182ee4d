"""Class prototypes in image space: learned vectors that a class's local evidence should resemble.

T2I-PAL (Feng et al., TPAMI 2025) has them but does not say where; the place is this project's
reading. R [C, K, D] starts from the class features z of the training images that show the class, by
spherical k-means or as their mean, or from the class's text embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.errors import UserError, listed
from t2ipal.method.head_config import PrototypeConfig

TURN = 0.1
"""Length of the random step that parts prototypes that would start equal, beside a unit vector."""


def smooth_maximum(values: Tensor, temperature: float) -> Tensor:
    """t log mean exp(v / t) over the last axis: the mean as t grows, the maximum as t vanishes.

    It equals v where the axis has one entry, or equal ones.
    """
    count = values.shape[-1]
    return temperature * ((values / temperature).logsumexp(dim=-1) - math.log(count))


def prototype_score(features: Tensor, prototypes: Tensor, config: PrototypeConfig) -> Tensor:
    """s_p [B, C]: class features z [B, C, D] against R [C, K, D], the K cosines made one."""
    cosines = torch.einsum("bcd,ckd->bck", features, F.normalize(prototypes, dim=-1))
    if config.aggregation == "max":
        return cosines.amax(dim=-1)
    if config.aggregation == "mean":
        return cosines.mean(dim=-1)
    return smooth_maximum(cosines, config.temperature)


def spherical_kmeans(points: Tensor, count: int, iterations: int = 25) -> Tensor:
    """``count`` unit centres [count, D] of unit ``points`` [n, D] by cosine, without any chance.

    The first centre is the normalised mean's nearest point, each next one the point farthest from
    those chosen, then Lloyd's iterations. With fewer points than centres the points are repeated.
    """
    if len(points) <= count:
        return points[torch.arange(count, device=points.device) % len(points)]
    chosen = [int((points @ points.mean(dim=0)).argmax())]
    nearest = points @ points[chosen[0]]  # cosine to the closest centre so far
    while len(chosen) < count:
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, points @ points[chosen[-1]])
    centres = points[chosen]
    for _ in range(iterations):
        assigned = F.one_hot((points @ centres.T).argmax(dim=1), count).to(points.dtype)
        sums = assigned.T @ points  # [count, D]
        filled = assigned.sum(dim=0) > 0
        updated = torch.where(filled[:, None], F.normalize(sums, dim=-1), centres)
        if torch.equal(updated, centres):
            break
        centres = updated
    return centres


def start_prototypes(
    config: PrototypeConfig,
    features: Tensor,
    labels: Tensor,
    text: Tensor,
    names: Sequence[str],
    seed: int = 0,
) -> Tensor:
    """R [C, K, D], unit vectors, at the start that the configuration names.

    Args:
        features: [Q, D] unit class features z, one for each (image, class it shows).
        labels: [Q] the class of each.
        text: [C, D] unit text embeddings of the classes.
        names: the C class names, for the message.
        seed: of what parts the K prototypes of a class where they would start equal.

    Raises:
        UserError: no image shows some class, from whatever they start: they are trained on images.
    """
    present = torch.bincount(labels, minlength=len(names))
    missing = [name for name, count in zip(names, present.tolist(), strict=True) if count == 0]
    refuse_classes_without_image(missing)
    points = [features[labels == index] for index in range(len(names))]
    if config.start == "k-means" and config.per_class > 1:
        return torch.stack([spherical_kmeans(own, config.per_class) for own in points])
    centres = text
    if config.start != "text":
        centres = torch.stack([F.normalize(own.mean(dim=0), dim=-1) for own in points])
    return part(centres, config.per_class, torch.Generator().manual_seed(seed))


def part(centres: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Each unit centre [C, D] and ``count`` - 1 neighbours of it: [C, count, D].

    Prototypes that start equal have equal gradients and would stay equal for ever.
    """
    classes, width = centres.shape
    steps = torch.randn(classes, count - 1, width, generator=generator) * TURN / math.sqrt(width)
    centre = centres[:, None]  # [C, 1, D]
    return torch.cat([centre, F.normalize(centre + steps.to(centres), dim=-1)], dim=1)


def refuse_classes_without_image(missing: Sequence[str]) -> None:
    """Raise the UserError that names classes no training image shows, if there are any."""
    if missing:
        raise UserError(
            f"no training image shows {listed(missing)}, and prototypes and adapter start from "
            "images: add captions that name the class (label --compose writes some) and draw them, "
            "take the class out of the vocabulary, or train with captions alone."
        )


class Prototypes(nn.Module):
    """R as a parameter; normalised where it is used, so that its length does not matter."""

    def __init__(self, config: PrototypeConfig, vectors: Tensor) -> None:
        super().__init__()
        self.config = config
        self.vectors = nn.Parameter(vectors.detach().clone())  # [C, K, D]

    def forward(self, features: Tensor) -> Tensor:
        """Score of class features z [B, C, D]: [B, C]."""
        return prototype_score(features, self.vectors, self.config)
