"""Class prototypes in image space: learned vectors that a class's local evidence should resemble.

T2I-PAL (Feng et al., TPAMI 2025) has them but does not say where; the place is this project's
reading. R [C, K, D] starts from the class features z of the training images that show the class:
their mean for K = 1, spherical k-means for more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.errors import UserError
from t2ipal.recognizer.config import PrototypeConfig


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
    features: Tensor, labels: Tensor, per_class: int, names: Sequence[str]
) -> Tensor:
    """R [C, K, D] from class features of training images.

    Args:
        features: [Q, D] unit class features z, one for each (image, class it shows).
        labels: [Q] the class of each.
        per_class: K.
        names: the C class names, for the message.

    Raises:
        UserError: no image shows some class.
    """
    present = torch.bincount(labels, minlength=len(names))
    missing = [name for name, count in zip(names, present.tolist(), strict=True) if count == 0]
    refuse_classes_without_image(missing)
    centres = []
    for index in range(len(names)):
        points = features[labels == index]
        if per_class == 1:
            centres.append(F.normalize(points.mean(dim=0, keepdim=True), dim=-1))
        else:
            centres.append(spherical_kmeans(points, per_class))
    return torch.stack(centres)


def refuse_classes_without_image(missing: Sequence[str]) -> None:
    """Raise the UserError that names classes no training image shows, if there are any."""
    if missing:
        shown = ", ".join(repr(name) for name in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"no training image shows {shown}{more}, and prototypes and adapter start from images: "
            "add captions that name the class (label --compose writes some) and draw them, take "
            "the class out of the vocabulary, or train with captions alone."
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
