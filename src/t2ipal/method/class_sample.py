"""Which classes a training step scores: all of them or, of many, the batch's and a sample.

The text tower embeds every class that a step scores, and that is nearly all of the step's cost and
memory. Of many classes a step therefore scores those that its batch shows and, of the others, some
drawn uniformly without replacement, each of which stands for (others) / (drawn) classes: a sum over
the classes of an item, or over its pairs of a present class and an absent one, keeps its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MANY = 300
"""From this many classes on a step scores a sample of them, unless a number is set."""
_SAMPLED = 256


@dataclass(frozen=True, eq=False)
class ClassSample:
    """Some of the C classes.

    Attributes:
        classes: [S] their numbers, ascending.
        weights: [S] how many classes each stands for, itself included.
    """

    classes: Tensor
    weights: Tensor


def sample_classes(
    targets: Sequence[Tensor], wanted: int | None, generator: torch.Generator
) -> ClassSample | None:
    """The classes to score in a step, or None for all of them.

    Args:
        targets: [B, C] labels of each batch of the step, on any device.
        wanted: S; if omitted all below 300 classes, else 256. The classes that some item shows are
            all taken, and of the others at least half of ``wanted``, as far as there are any.
        generator: drawn from only if some are left out.
    """
    count = targets[0].shape[1]
    if wanted is None:
        if count < _MANY:
            return None
        wanted = _SAMPLED
    shown = torch.stack([(batch > 0).any(dim=0) for batch in targets]).any(dim=0).cpu()  # [C]
    others = (~shown).nonzero().squeeze(1)
    drawn = max(wanted - (count - len(others)), -(-wanted // 2))
    if drawn >= len(others):
        return None
    weights = shown.float()
    chosen = others[torch.randperm(len(others), generator=generator)[:drawn]]
    weights[chosen] = len(others) / drawn
    classes = weights.nonzero().squeeze(1)
    return ClassSample(classes, weights[classes])


def of_classes(tensor: Tensor, classes: Tensor | None, dim: int = 0) -> Tensor:
    """The part of ``tensor`` for the numbered ``classes``, all of it if None.

    Those that are left out get a gradient of zero, not none: an optimiser's averages then hold the
    mean over the steps, and weight decay and momentum act as without a sample.
    """
    return tensor if classes is None else tensor.index_select(dim, classes)


def weighed(values: Tensor, weights: Tensor | None) -> Tensor:
    """Values [B, S] times the classes' weights [S]; as they are if None."""
    return values if weights is None else values * weights
