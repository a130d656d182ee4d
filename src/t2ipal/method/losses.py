"""Losses over logits [B, C] and labels [B, C] (1 present, 0 absent, negative unknown).

A label between 0 and 1 is soft. The ranking losses give its pairs that weight; the pointwise ones
take it as the share of a present class, the rest as that of an absent one.

All of them are means over the items of a sum, so that learning rates carry over between batch
sizes, and all leave unknown labels out: neither the value nor any gradient depends on the logit of
an unknown pair. The ranking losses compare each present class with each absent class of an item;
an item without the one or the other contributes zero.

Of a sample of the classes (:mod:`t2ipal.method.class_sample`) hinge, bce and asymmetric have the
mean that all classes would give, and so has pair-hinge where no label is unknown, since then the
weights count the pairs exactly. log-sum-exp has not: the logarithm of an estimated sum is too low
on average. Nor has a pointwise loss whose logits were centred on an estimated mean.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from t2ipal.method.class_sample import weighed
from t2ipal.method.train_config import LossConfig


class Loss(Protocol):
    """(logits [B, C], targets [B, C], weights [C] or None) -> scalar."""

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None, /) -> Tensor:
        """The loss; ``weights`` say how many classes each stands for, one if None."""


def _ranking_hinge(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, margin: float = 1.0
) -> Tensor:
    """TaI-DPT's loss: mean over items of sum over pairs of max(0, m - s_pos + s_neg)."""
    return _hinge_of_items(logits, targets, weights, margin).sum() / len(logits)


def _pair_normalised_hinge(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, margin: float = 1.0
) -> Tensor:
    """The ranking hinge, each item's sum divided by its number of pairs.

    Without it an item with many labels outweighs the others by its number of pairs.
    """
    pairs = (targets > 0).sum(dim=1) * weighed(targets == 0, weights).sum(dim=1)  # [B]
    sums = _hinge_of_items(logits, targets, weights, margin)
    return (sums / pairs.clamp_min(1)).sum() / len(logits)


def _ranking_log_sum_exp(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, margin: float = 0.0
) -> Tensor:
    """Mean over items of log(1 + sum over pairs of exp(m - s_pos + s_neg)).

    A smooth hinge that attends to the pairs ranked worst (Li et al., CVPR 2017, arXiv 1704.03135).
    """
    positive, negative = targets > 0, targets == 0
    rows = positive.any(dim=1) & negative.any(dim=1)
    logits, positive, negative = logits[rows], positive[rows], negative[rows]
    shares = targets[rows].to(logits).clamp_min(torch.finfo(logits.dtype).tiny).log()
    lowest = (shares - logits).masked_fill(~positive, -torch.inf).logsumexp(dim=1)
    if weights is not None:
        logits = logits + weights.log()
    highest = logits.masked_fill(~negative, -torch.inf).logsumexp(dim=1)
    # exp sums over pairs factor into a sum over positives times a sum over negatives.
    return F.softplus(margin + highest + lowest).sum() / len(targets)


def _binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over items of the sum over known classes of the cross-entropy."""
    losses = F.binary_cross_entropy_with_logits(
        logits, targets.to(logits).clamp_min(0), reduction="none"
    )
    return weighed(losses, weights).masked_fill(targets < 0, 0).sum() / len(logits)


def _asymmetric(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    positive_focus: float = 1.0,
    negative_focus: float = 4.0,
    probability_shift: float = 0.05,
) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021): mean over items of the sum over known classes.

    -(1 - p)^g+ log p for a present class, -q^g- log(1 - q) for an absent one, where p is the
    sigmoid of the logit and q = max(0, p - shift).
    """
    tiny = torch.finfo(logits.dtype).tiny  # not 0: the slope of x^g at 0 is infinite for g < 1
    probability = logits.sigmoid()
    shifted = (probability - probability_shift).clamp_min(tiny)
    present = (1 - probability).clamp_min(tiny) ** positive_focus * F.logsigmoid(logits)
    absent = shifted**negative_focus * (1 - shifted).clamp_min(tiny).log()
    share = targets.to(logits).clamp_min(0)
    losses = -torch.lerp(absent, present, share)
    return weighed(losses, weights).masked_fill(targets < 0, 0).sum() / len(logits)


def loss_function(config: LossConfig) -> Loss:
    """The loss that the configuration names, its constants bound."""
    losses: dict[str, Loss] = {
        "hinge": partial(_ranking_hinge, margin=config.margin),
        "pair-hinge": partial(_pair_normalised_hinge, margin=config.margin),
        "log-sum-exp": partial(_ranking_log_sum_exp, margin=config.margin),
        "bce": _binary_cross_entropy,
        "asymmetric": partial(
            _asymmetric,
            positive_focus=config.positive_focus,
            negative_focus=config.negative_focus,
            probability_shift=config.probability_shift,
        ),
    }
    return losses[config.kind]


def _hinge_of_items(
    logits: Tensor, targets: Tensor, weights: Tensor | None, margin: float
) -> Tensor:
    """[B] sum over pairs of max(0, m - s_pos + s_neg).

    Works on (positive, class) rows, not on a [B, C, C] cube: few classes are present in an item.
    index_select, since the gradient of ``logits[item]`` adds in an order that varies with threads.
    """
    item, positive = (targets > 0).nonzero(as_tuple=True)  # [Q], one entry a present class
    rows = logits.index_select(0, item)  # [Q, C]
    gaps = F.relu(margin - rows.gather(1, positive[:, None]) + rows)
    gaps = weighed(gaps, weights).masked_fill(targets[item] != 0, 0)
    sums = gaps.sum(dim=1) * targets[item, positive].to(logits)
    return logits.new_zeros(len(logits)).index_add(0, item, sums)
