"""Class prototypes in image space: learned vectors that a class's local evidence should resemble.

T2I-PAL (Feng et al., TPAMI 2025) has them but does not say where; the place is this project's
reading. R [C, K, D] starts from the class features z of the training images that show the class, by
spherical k-means or as their mean, or from the class's text embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.method.class_sample import of_classes
from t2ipal.method.equations import prototype_score
from t2ipal.method.head_config import PrototypeConfig

_ITERATIONS = 25  # of Lloyd's, at most
_STEP = 0.1
"""Length of the random step that parts prototypes that would start equal, beside a unit vector."""


class Prototypes(nn.Module):
    """R as a parameter; normalised where it is used, so that its length does not matter.

    Attributes:
        config: the configuration.
        vectors: R [C, K, D].
    """

    def __init__(self, config: PrototypeConfig, vectors: Tensor) -> None:
        super().__init__()
        self.config = config
        self.vectors = nn.Parameter(vectors.detach().clone())  # [C, K, D]

    @classmethod
    def start(
        cls, config: PrototypeConfig, features: Tensor, labels: Tensor, text: Tensor, seed: int = 0
    ) -> Prototypes:
        """Unit vectors at the start that the configuration names.

        Args:
            features: [Q, D] unit class features z, one for each (image, class it shows).
            labels: [Q] the class of each; every class occurs.
            text: [C, D] unit text embeddings of the classes.
            seed: of what parts the K prototypes of a class where they would start equal.
        """
        points = [features[labels == index] for index in range(len(text))]
        if config.start == "k-means" and config.per_class > 1:
            centres = [spherical_kmeans(own, config.per_class) for own in points]
            return cls(config, torch.stack(centres))
        centre = text
        if config.start != "text":
            centre = torch.stack([F.normalize(own.mean(dim=0), dim=-1) for own in points])
        generator = torch.Generator().manual_seed(seed)
        return cls(config, _with_neighbours(centre, config.per_class, generator))

    def forward(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """s_p [B, S] of class features z [B, S, D] of the numbered ``classes``, all if None."""
        return prototype_score(z, of_classes(self.vectors, classes), self.config)


def spherical_kmeans(points: Tensor, count: int) -> Tensor:
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
    for _ in range(_ITERATIONS):
        assigned = F.one_hot((points @ centres.T).argmax(dim=1), count).to(points.dtype)
        sums = assigned.T @ points  # [count, D]
        filled = assigned.sum(dim=0) > 0
        updated = torch.where(filled[:, None], F.normalize(sums, dim=-1), centres)
        if torch.equal(updated, centres):
            break
        centres = updated
    return centres


def _with_neighbours(centres: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Each unit centre [C, D] and ``count`` - 1 neighbours of it: [C, count, D].

    Prototypes that start equal have equal gradients and would stay equal for ever.
    """
    classes, width = centres.shape
    steps = torch.randn(classes, count - 1, width, generator=generator) * _STEP / math.sqrt(width)
    centre = centres[:, None]  # [C, 1, D]
    return torch.cat([centre, F.normalize(centre + steps.to(centres), dim=-1)], dim=1)
