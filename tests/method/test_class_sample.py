"""Scoring a sample of the classes: every possible sample against the loss of all of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from t2ipal.method.checkpoint import tuned_state
from t2ipal.method.class_sample import ClassSample, sample_classes
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import AdapterConfig, HeadConfig, PromptConfig, PrototypeConfig
from t2ipal.method.losses import loss_function
from t2ipal.method.methods import method_config
from t2ipal.method.prompts import LearnedPrompts
from t2ipal.method.train_config import LossConfig, TrainConfig
from t2ipal.method.training import _BranchLoss, _loss, fit
from tiny_head import CLASSES, make_world

WORLD = make_world()
IMAGES, CAPTIONS = WORLD.images(60, seed=1), WORLD.captions(60, seed=2)
VALID = WORLD.images(30, seed=3)
PER_CLASS = HeadConfig(
    prompts=PromptConfig(context_tokens=4, per_class=True),
    prototypes=PrototypeConfig(per_class=2),
    adapter=AdapterConfig(per_class=4),
)
CACHE = replace(PER_CLASS, adapter=AdapterConfig(kind="cache", per_class=4))
FIXED = replace(CACHE, prompts=PromptConfig(kind="fixed"))
DUAL = method_config("dualcoop").head


def labels(classes: int, *shown: int) -> Tensor:
    targets = torch.zeros(len(shown), classes, dtype=torch.int8)
    targets[torch.arange(len(shown)), torch.tensor(shown)] = 1
    return targets


def every_sample(targets: Tensor, drawn: int) -> list[ClassSample]:
    """All samples of ``drawn`` classes beside those that are shown, equally likely."""
    shown = (targets > 0).any(dim=0)
    others = (~shown).nonzero().squeeze(1).tolist()
    found = []
    for chosen in combinations(others, drawn):
        weights = shown.float()
        weights[list(chosen)] = len(others) / drawn
        classes = weights.nonzero().squeeze(1)
        found.append(ClassSample(classes, weights[classes]))
    return found


@pytest.mark.parametrize("kind", ["hinge", "pair-hinge", "bce", "asymmetric", "log-sum-exp"])
def test_the_mean_over_all_samples_is_the_loss_and_gradient_of_all_classes(kind: str) -> None:
    loss = loss_function(LossConfig(kind=kind))
    targets = labels(9, 0, 1, 3)
    targets[0, 1], targets[1, 8] = 1, 0 if kind == "pair-hinge" else -1
    logits = torch.randn(3, 9, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    whole = loss(logits, targets)
    (slope,) = torch.autograd.grad(whole, logits)
    means = []
    for sample in every_sample(targets, 2):
        value = loss(logits[:, sample.classes], targets[:, sample.classes], sample.weights)
        means.append((value.detach(), *torch.autograd.grad(value, logits)))
    mean, gradient = (torch.stack(parts).mean(dim=0) for parts in zip(*means, strict=True))
    if kind == "log-sum-exp":  # the logarithm is concave
        assert mean < whole - 1e-3
    else:
        assert torch.allclose(mean, whole) and torch.allclose(gradient, slope)


@pytest.mark.parametrize("config", [PER_CLASS, CACHE, FIXED, DUAL], ids=["own", "c", "f", "dual"])
def test_every_tensor_of_a_head_keeps_the_mean_of_its_gradient(config: HeadConfig) -> None:
    head = WORLD.head(config)
    if config.needs_images:
        head.start(IMAGES)
    shown = (IMAGES.targets[:, [0, 2]] > 0).any(dim=1) & (IMAGES.targets[:, 3:] == 0).all(dim=1)
    batch = IMAGES.take(shown.nonzero().squeeze(1))
    train = TrainConfig(train_on="images")
    loss_of = _BranchLoss(train, {"image": batch}, head)
    tuned = [p for p in head.parameters() if p.requires_grad]

    def gradients(sample: ClassSample | None) -> list[Tensor]:
        return list(torch.autograd.grad(_loss(head, {"image": batch}, loss_of, sample), tuned))

    samples = [gradients(sample) for sample in every_sample(batch.targets, 2)]
    assert len(samples) == 3
    for index, whole in enumerate(gradients(None)):
        mean = torch.stack([sample[index] for sample in samples]).mean(dim=0)
        assert torch.allclose(mean, whole, atol=1e-5)


def test_what_is_sampled() -> None:
    made = torch.Generator().manual_seed(0)
    few, many = labels(299, 5, 7), labels(1000, 5, 999, 7)
    assert sample_classes([few], None, made) is None
    assert sample_classes([few], 299, made) is None
    assert torch.equal(made.get_state(), torch.Generator().manual_seed(0).get_state())
    found = sample_classes([many, labels(1000, 8)], None, made)
    assert found is not None and len(found.classes) == 256
    assert {5, 7, 8, 999} <= set(found.classes.tolist())
    assert float(found.weights.sum()) == pytest.approx(1000)
    assert sorted(found.weights.tolist())[3:5] == [1.0, pytest.approx(996 / 252)]
    crowded = sample_classes([labels(20, *range(9))], 6, made)
    assert crowded is not None and len(crowded.classes) == 9 + 3
    counts = torch.zeros(20)
    for _ in range(2000):
        one = sample_classes([labels(20, 0)], 5, made)
        assert one is not None
        counts[one.classes] += 1
    assert counts[0] == 2000 and (counts[1:] - 2000 * 4 / 19).abs().max() < 100  # five deviations


def trained(config: TrainConfig, seed: int = 0, head: HeadConfig = PER_CLASS) -> dict[str, Tensor]:
    made = WORLD.head(head)
    rows = torch.arange(16)
    fit(made, [IMAGES.take(rows), CAPTIONS.take(rows)], VALID, config, seed=seed)
    return tuned_state(made)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_sampled_training_repeats_and_one_of_all_classes_is_the_whole_one() -> None:
    config = TrainConfig(epochs=1, batch_size=2, ema=0.9)
    sampled = replace(config, classes_per_step=2)
    whole = trained(config)
    assert same(trained(replace(config, classes_per_step=CLASSES)), whole)
    found = trained(sampled)
    assert same(trained(sampled), found)
    assert not same(found, whole) and not same(trained(sampled, seed=1), found)


def test_only_the_sampled_prompts_go_through_the_text_tower() -> None:
    met: list[int] = []
    head = WORLD.head(PER_CLASS).start(IMAGES)
    assert isinstance(head.prompts, LearnedPrompts)
    (tower,) = head.prompts._text_encoder

    def watched(embeddings: Tensor, eos: Tensor, shared: int) -> Tensor:
        if torch.is_grad_enabled():
            met.append(embeddings.shape[1])
        return tower(embeddings, eos, shared)

    head.prompts._text_encoder = (watched,)
    one = IMAGES.targets.sum(dim=1) == 1
    items = IMAGES.take(one.nonzero().squeeze(1))
    config = TrainConfig(train_on="images", epochs=1, batch_size=1, classes_per_step=4)
    fit(head, [items], VALID, config)
    assert met and set(met) == {4}


def test_many_classes_and_items_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def scored() -> tuple[T2IPALHead, Tensor]:
        head = WORLD.head(PER_CLASS).start(IMAGES)
        return head, head.score_items(VALID)

    head, whole = scored()
    monkeypatch.setattr("t2ipal.method.prompts._PASS", 4)
    monkeypatch.setattr("t2ipal.method.head._MOST_CELLS", 7 * CLASSES)
    parts, found = scored()
    assert torch.allclose(found, whole, atol=1e-6)
    assert torch.allclose(parts.adapter.absent, head.adapter.absent, atol=1e-6)
