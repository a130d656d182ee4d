from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from t2ipal.method.head_config import AdapterConfig, HeadConfig, PromptConfig
from t2ipal.method.optimiser import Optimiser, _learning_rate
from t2ipal.method.train_config import TrainConfig
from tiny_head import make_world

WORLD = make_world()
HEAD = WORLD.head(
    HeadConfig(prompts=PromptConfig(context_tokens=4), adapter=AdapterConfig(per_class=2))
).start(WORLD.images(30, seed=1))


def total_of_squares() -> torch.Tensor:
    parameters = [p for group in HEAD.tuned_parameters().values() for p in group]
    return torch.stack([p.square().sum() for p in parameters]).sum()


def test_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    config = TrainConfig(epochs=10, warmup=0.1)
    rates = [_learning_rate(config, 3.0, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([3 * (step + 1) / 11 for step in range(10)])
    expected = [3 * 0.5 * (1 + math.cos(math.pi * step / 90)) for step in range(90)]
    assert rates[10:] == pytest.approx(expected)
    assert _learning_rate(TrainConfig(epochs=1, warmup=0.0), 1.0, 0, 1) == 1


def test_rate_of_the_warm_up_can_be_given() -> None:
    config = TrainConfig(epochs=10, warmup=0.1, warmup_lr=0.5)
    assert [_learning_rate(config, 3.0, step, 100) for step in (0, 9, 10)] == [0.5, 0.5, 3.0]


def test_rate_by_the_epoch_is_that_of_dassl() -> None:
    """PyTorch's own cosine over all epochs, begun when the constant warm-up is over."""
    config = TrainConfig(epochs=20, schedule="epochs", warmup=0.05, warmup_lr=1e-5)
    weight = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=1e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
    expected = [1e-5]
    for _ in range(19):
        expected.append(cosine.get_last_lr()[0])
        optimiser.step()
        cosine.step()
    rates = [_learning_rate(config, 1e-4, step, 60) for step in range(60)]
    assert rates == pytest.approx([rate for rate in expected for _ in range(3)])


def test_each_group_moves_at_its_own_rate() -> None:
    """Under plain gradient descent on the sum of squares a step is 2 lr times the value."""
    rates = {"prompts": 0.01, "prototypes": 0.0, "adapter": 0.03}
    config = TrainConfig(
        optimiser="sgd",
        momentum=0.0,
        weight_decay=0.0,
        warmup=0.0,
        **{f"lr_{name}": rate for name, rate in rates.items()},
    )
    before = {
        name: [p.detach().clone() for p in group] for name, group in HEAD.tuned_parameters().items()
    }
    Optimiser(HEAD, config, steps=1).step(total_of_squares())
    for name, group in HEAD.tuned_parameters().items():
        for parameter, start in zip(group, before[name], strict=True):
            assert torch.allclose(parameter, (1 - 2 * rates[name]) * start, atol=1e-6)
            assert parameter.grad is None


def test_average_trails_and_is_lent_to_the_head() -> None:
    config = replace(TrainConfig(), ema=0.8, warmup=0.0)
    optimiser = Optimiser(HEAD, config, steps=5)
    expected = optimiser.snapshot()
    for _ in range(5):
        optimiser.step(total_of_squares())
        now = optimiser.snapshot()
        expected = [0.8 * mean + 0.2 * value for mean, value in zip(expected, now, strict=True)]
    with optimiser.averaged():
        inside = optimiser.snapshot()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(inside, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(optimiser.snapshot(), now, strict=True))
    assert not torch.allclose(inside[0], now[0])


def test_without_average_the_head_lends_itself() -> None:
    optimiser = Optimiser(HEAD, TrainConfig(), steps=1)
    with optimiser.averaged():
        assert all(
            torch.equal(a, b)
            for a, b in zip(optimiser.snapshot(), optimiser.parameters, strict=True)
        )
    optimiser.restore([torch.zeros_like(p) for p in optimiser.parameters])
    assert all((p == 0).all() for p in optimiser.parameters)
