"""The training loop the three models share: a budget of minutes, a schedule, checkpoints, a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t2ipal.files import atomic_path

log = logging.getLogger(__name__)


class Average:
    """Exponential moving average of a module's floating-point parameters and buffers."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)


def train_for(
    minutes: float,
    module: nn.Module,
    loss_of: Callable[[int, float], tuple[Tensor, dict[str, float]]],
    *,
    folder: Path,
    rate: float,
    weight_decay: float = 0.05,
    warmup: int = 200,
    save_every: float = 120.0,
    no_decay: Iterable[str] = (),
) -> Average:
    """Run AdamW on ``loss_of(step, progress)`` for a number of minutes with a cosine schedule.

    ``folder/checkpoint.safetensors`` holds the weights, their average and the progress, from
    which the same call resumes (the optimiser's moments start anew).

    Returns:
        The moving average of the weights.
    """
    checkpoint = folder / "checkpoint.safetensors"
    skip = tuple(no_decay)
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in module.named_parameters():
        groups[parameter.ndim >= 2 and not any(s in name for s in skip)].append(parameter)
    decayed: list[dict[str, Any]] = [
        {"params": groups[True]},
        {"params": groups[False], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(
        decayed,
        lr=rate,
        betas=(0.9, 0.98),
        weight_decay=weight_decay,
    )
    average = Average(module)
    spent, step = 0.0, 0
    if checkpoint.exists():
        saved = load_file(checkpoint)
        spent, step = float(saved.pop("spent")), int(saved.pop("step"))
        module.load_state_dict({k[6:]: v for k, v in saved.items() if k.startswith("model.")})
        average.state = {k[8:]: v for k, v in saved.items() if k.startswith("average.")}
        average.steps = step
        log.info("resumed at step %d, minute %.1f", step, spent / 60)
    first, last_save, started = step, time.monotonic(), time.monotonic() - spent
    sums: dict[str, float] = {}
    while (spent := time.monotonic() - started) < 60 * minutes:
        progress = spent / (60 * minutes)
        warm = min(1.0, (step - first + 1) / warmup)
        scale = warm * max(0.02, 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * progress)))))
        for group in optimiser.param_groups:
            group["lr"] = rate * scale
        loss, parts = loss_of(step, progress)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        average.update(module)
        step += 1
        for key, value in parts.items():
            sums[key] = sums.get(key, 0.0) + value
        if step % 100 == 0:
            text = "  ".join(f"{key} {value / 100:.4f}" for key, value in sums.items())
            log.info("minute %.1f  step %d  %s", spent / 60, step, text)
            sums = {}
        if time.monotonic() - last_save > save_every:
            _save(checkpoint, module, average, spent, step)
            last_save = time.monotonic()
    _save(checkpoint, module, average, spent, step)
    return average


def _save(path: Path, module: nn.Module, average: Average, spent: float, step: int) -> None:
    state = {f"model.{k}": v.detach() for k, v in module.state_dict().items()}
    state |= {f"average.{k}": v for k, v in average.state.items()}
    state = {k: v.clone(memory_format=torch.contiguous_format) for k, v in state.items()}
    state |= {"spent": torch.tensor(spent, dtype=torch.float64), "step": torch.tensor(step)}
    with atomic_path(path) as temporary:
        save_file(state, temporary)


def pixels(images: Tensor) -> Tensor:
    """[B, H, W, 3] uint8 -> [B, 3, H, W] in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255)
