"""How good scores are on held-out items; model selection needs one number and nothing more."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores: Tensor, present: Tensor) -> float:
    """Non-interpolated average precision of ``scores`` [N] against ``present`` [N] bool.

    Equal scores form one step of the precision-recall curve, so that order does not matter; this
    is scikit-learn's definition. nan if nothing is present.
    """
    order = scores.argsort(descending=True, stable=True)
    sorted_scores, hits = scores[order], present[order].double().cumsum(dim=0)
    if len(scores) == 0 or hits[-1] == 0:
        return float("nan")
    last = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    last[:-1] = sorted_scores[:-1] != sorted_scores[1:]  # the last item of each group of ties
    ranks = last.nonzero().squeeze(1)
    precision = hits[ranks] / (ranks + 1)
    recall = hits[ranks] / hits[-1]
    return float((precision * recall.diff(prepend=recall.new_zeros(1))).sum())


def mean_average_precision(scores: Tensor, targets: Tensor) -> float:
    """Mean over the classes of the average precision, [N, C] scores and labels.

    Unknown labels are left out; so are classes that no item shows. nan if no class is left.
    """
    values = []
    for column, labels in zip(scores.T, targets.T, strict=True):
        known = labels >= 0
        values.append(average_precision(column[known], labels[known] == 1))
    found = [value for value in values if value == value]
    return sum(found) / len(found) if found else float("nan")
