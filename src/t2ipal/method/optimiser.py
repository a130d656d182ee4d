"""The tuned tensors of a head on their way: learning rates, gradients, averages and snapshots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from t2ipal.errors import UserError
from t2ipal.method.head import T2IPALHead
from t2ipal.method.train_config import TrainConfig


class Optimiser:
    """Moves the parameters of ``head`` that ``config`` gives a learning rate, and no others.

    Args:
        steps: how many steps there will be, a multiple of the epochs, for the schedule.

    Raises:
        UserError: there is nothing to train.
    """

    def __init__(self, head: T2IPALHead, config: TrainConfig, steps: int) -> None:
        self.config = config
        self.steps = steps
        self.taken = 0
        groups = _groups(head, config)
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self._average = None if config.ema is None else self.snapshot()
        self._optimiser: torch.optim.Optimizer
        if config.optimiser == "sgd":
            self._optimiser = torch.optim.SGD(
                groups, momentum=config.momentum, weight_decay=config.weight_decay
            )
        else:
            self._optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)

    def step(self, loss: Tensor) -> None:
        """One step down ``loss``; gradients are asked for the tuned parameters alone."""
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self._optimiser.param_groups:
            group["lr"] = _learning_rate(self.config, group["peak"], self.taken, self.steps)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.taken += 1
        if self._average is not None and self.config.ema is not None:
            for mean, parameter in zip(self._average, self.parameters, strict=True):
                mean.lerp_(parameter.detach(), 1 - self.config.ema)  # a <- decay a + (1-decay) p

    def snapshot(self) -> list[Tensor]:
        """Copies of the tuned tensors as they are now."""
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def restore(self, values: list[Tensor]) -> None:
        """Put a snapshot back."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the head holds the average of its tensors, where one is kept."""
        if self._average is None:
            yield
            return
        current = self.snapshot()
        self.restore(self._average)
        try:
            yield
        finally:
            self.restore(current)


def _learning_rate(config: TrainConfig, peak: float, step: int, steps: int) -> float:
    """The rate at ``step`` of ``steps``: the warm-up, then down from ``peak`` along a cosine.

    By the step, the cosine ends with the training. By the epoch, it is as long as all epochs and
    counted from the end of the warm-up (Dassl's ``CosineAnnealingLR`` behind its constant warm-up).
    """
    now, whole = step, steps
    if config.schedule == "epochs":
        now, whole = step // (steps // config.epochs), config.epochs
    warm = round(config.warmup * whole)
    if now < warm:
        return peak * ((now + 1) / (warm + 1)) if config.warmup_lr is None else config.warmup_lr
    falling = whole if config.schedule == "epochs" else max(1, whole - warm)
    return peak * (0.5 * (1 + math.cos(math.pi * (now - warm) / falling)))


def _groups(head: T2IPALHead, config: TrainConfig) -> list[dict[str, Any]]:
    """Tuned parameters with their peak learning rate; a group of rate 0 stays as it is."""
    rates = {
        "prompts": config.lr_prompts,
        "prototypes": config.lr_prototypes,
        "adapter": config.lr_adapter,
    }
    found = head.tuned_parameters()
    groups = [
        {"params": found[name], "lr": rate, "peak": rate}
        for name, rate in rates.items()
        if found[name] and rate > 0
    ]
    if not groups:
        raise UserError("there is nothing to train: every part is fixed or has learning rate 0.")
    if config.kinds == ("caption",) and not (found["prompts"] and config.lr_prompts > 0):
        raise UserError("captions train prompts alone, and these are fixed: train on images too.")
    return groups
