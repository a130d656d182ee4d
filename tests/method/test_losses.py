"""Every loss against a loop written from its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t2ipal.method.losses import Loss, loss_function
from t2ipal.method.train_config import LossConfig

KINDS = ("hinge", "pair-hinge", "log-sum-exp", "asymmetric", "bce")
CONFIGS = [
    *(LossConfig(kind=kind) for kind in KINDS),
    LossConfig(kind="hinge", margin=0.3),
    LossConfig(kind="log-sum-exp", margin=0.0),
    LossConfig(kind="asymmetric", positive_focus=0.0, negative_focus=2.0, probability_shift=0.2),
]


def batch(items: int = 12, classes: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(items, classes, generator=generator) * 1.5
    targets = torch.randint(-1, 2, (items, classes), generator=generator).to(torch.int8)
    targets[0], targets[1], targets[2] = 1, 0, -1  # no negative; no positive; nothing known
    return logits, targets


def softened(targets: Tensor) -> Tensor:
    weights = torch.rand(targets.shape, generator=torch.Generator().manual_seed(5))
    return torch.where(targets == 1, weights, targets)


def slow_loss(config: LossConfig, logits: Tensor, targets: Tensor) -> float:
    total = 0.0
    for scores, labels in zip(logits.tolist(), targets.tolist(), strict=True):
        pairs = [
            (labels[p], scores[n] - scores[p])
            for p in range(len(labels))
            for n in range(len(labels))
            if labels[p] > 0 and labels[n] == 0
        ]
        if config.kind == "hinge":
            total += sum(weight * max(0.0, config.margin + gap) for weight, gap in pairs)
        elif config.kind == "pair-hinge" and pairs:
            sum_ = sum(weight * max(0.0, config.margin + gap) for weight, gap in pairs)
            total += sum_ / len(pairs)
        elif config.kind == "log-sum-exp":
            total += math.log(1 + sum(w * math.exp(config.margin + gap) for w, gap in pairs))
        for score, label in zip(scores, labels, strict=True):
            chance = 1 / (1 + math.exp(-score))
            if config.kind == "bce" and label >= 0:
                total -= label * math.log(chance) + (1 - label) * math.log(1 - chance)
            if config.kind == "asymmetric" and label >= 0:
                present = (1 - chance) ** config.positive_focus * math.log(chance)
                shifted = max(0.0, chance - config.probability_shift)
                absent = shifted**config.negative_focus * math.log(1 - shifted)
                total -= label * present + (1 - label) * absent
    return total / len(logits)


def gradient(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    loss(logits, targets).backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_equals_the_loop(config: LossConfig) -> None:
    logits, hard = batch()
    for targets in (hard, softened(hard)):
        assert float(loss_function(config)(logits, targets)) == pytest.approx(
            slow_loss(config, logits, targets), rel=1e-5
        )


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_unknown_labels_change_neither_value_nor_gradient(config: LossConfig) -> None:
    loss = loss_function(config)
    logits, targets = batch()
    disturbed = torch.where(targets < 0, torch.full_like(logits, 50.0), logits)
    assert torch.equal(loss(disturbed, targets), loss(logits, targets))
    plain = gradient(loss, logits, targets)
    assert (plain[targets < 0] == 0).all()
    assert torch.equal(gradient(loss, disturbed, targets), plain)
    assert plain.abs().sum() > 0


@pytest.mark.parametrize("kind", ["hinge", "pair-hinge", "log-sum-exp"])
@pytest.mark.parametrize("label", [1, 0, -1])
def test_items_without_a_pair_cost_nothing(kind: str, label: int) -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.full((3, 4), label, dtype=torch.int8)
    loss = loss_function(LossConfig(kind=kind))
    assert float(loss(logits, targets)) == 0
    assert (gradient(loss, logits, targets) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_slope_and_finite_at_extremes(kind: str) -> None:
    loss = loss_function(LossConfig(kind=kind))
    logits, targets = batch(items=5, classes=4)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, softened(targets)), logits.double().requires_grad_(), eps=1e-6
    )
    assert torch.autograd.gradcheck(
        lambda x: loss(x, targets), logits.double().requires_grad_(), eps=1e-6
    )
    for extreme in (-200.0, 200.0):
        assert gradient(loss, torch.full_like(logits, extreme), targets).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_items_and_classes_does_not_matter(kind: str) -> None:
    loss = loss_function(LossConfig(kind=kind))
    logits, targets = batch()
    rows, columns = torch.randperm(12), torch.randperm(7)
    shuffled = loss(logits[rows][:, columns], targets[rows][:, columns])
    assert float(shuffled) == pytest.approx(float(loss(logits, targets)), rel=1e-5)
