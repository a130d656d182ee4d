from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from t2ipal.errors import UserError
from t2ipal.method.checkpoint import _load_tuned, restore_head, tuned_state
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import AdapterConfig, HeadConfig, PromptConfig, PrototypeConfig
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import method_config
from t2ipal.method.train_config import LossConfig, TrainConfig
from t2ipal.method.training import FitResult, fit
from t2ipal.metrics.ranking import average_precision
from tiny_head import CLASSES, NAMES, make_world

WORLD = make_world()
IMAGES, CAPTIONS = WORLD.images(120, seed=1), WORLD.captions(150, seed=2)
VALID, TEST = WORLD.images(60, seed=3), WORLD.images(300, seed=4)
TRAIN = [IMAGES, CAPTIONS]
HEAD = HeadConfig(prompts=PromptConfig(context_tokens=4), adapter=AdapterConfig(per_class=8))
QUICK = TrainConfig(epochs=3, batch_size=32)


def trained(
    config: TrainConfig = QUICK,
    head_config: HeadConfig = HEAD,
    train: list[ItemSet] | None = None,
    seed: int = 0,
) -> tuple[T2IPALHead, FitResult]:
    head = WORLD.head(head_config)
    return head, fit(head, TRAIN if train is None else train, VALID, config, seed=seed)


def mean_ap(head: T2IPALHead, items: ItemSet = TEST) -> float:
    return float(
        np.nanmean(average_precision(head.score_items(items).numpy(), items.targets.numpy()))
    )


def test_training_beats_zero_shot_and_captions_alone() -> None:
    zero_shot = mean_ap(WORLD.head(method_config("zero-shot").head))
    scores = {}
    for name in ("tai-dpt", "t2i-pal"):
        method = method_config(name)
        assert method.train is not None
        scores[name] = mean_ap(trained(replace(method.train, epochs=12), method.head)[0])
    assert scores["tai-dpt"] > zero_shot + 0.05
    assert scores["t2i-pal"] > scores["tai-dpt"] + 0.05


def test_same_seed_same_bytes_other_seed_other_bytes() -> None:
    first, second = (tuned_state(trained()[0]) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = tuned_state(trained(QUICK, seed=1)[0])
    assert not torch.equal(first["prompts.local_context"], other["prompts.local_context"])


@pytest.mark.parametrize("loss", ["hinge", "pair-hinge", "log-sum-exp", "asymmetric", "bce"])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_every_loss_and_optimiser_lowers_the_loss(loss: str, optimiser: str) -> None:
    config = replace(QUICK, epochs=4, loss=LossConfig(kind=loss), optimiser=optimiser)
    if optimiser == "sgd":  # its steps are as small as the gradients
        config = replace(config, lr_prompts=0.02, lr_prototypes=0.02, lr_adapter=0.02)
    _, result = trained(config)
    losses = [row.loss for row in result.history[1:]]
    assert losses[-1] < losses[0]


def test_only_tuned_tensors_change_and_the_tower_sees_no_gradient() -> None:
    head = WORLD.head(HEAD).start(IMAGES)
    before = tuned_state(head)
    tower = {name: value.clone() for name, value in WORLD.tower.named_parameters()}
    features = [items.local.clone() for items in TRAIN]
    fit(head, TRAIN, VALID, replace(QUICK, select="last"))
    after = tuned_state(head)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(before)
    for name, value in WORLD.tower.named_parameters():
        assert value.grad is None and torch.equal(value, tower[name])
    assert all(torch.equal(a.local, b) for a, b in zip(TRAIN, features, strict=True))


@pytest.mark.parametrize(
    ("head_config", "train_config", "tuned"),
    [
        (HEAD, replace(QUICK, train_on="captions"), {"prompts"}),
        (HEAD, replace(QUICK, lr_prompts=0.0), {"prototypes", "adapter"}),
        (HEAD, replace(QUICK, lr_prototypes=0.0, lr_adapter=0.0), {"prompts"}),
        (
            replace(HEAD, adapter=replace(HEAD.adapter, learn_keys=False)),
            QUICK,
            {"prompts", "prototypes"},
        ),
        (
            replace(
                HEAD, prompts=PromptConfig(kind="fixed"), adapter=AdapterConfig(kind="bottleneck")
            ),
            QUICK,
            {"prototypes", "adapter"},
        ),
        (
            replace(HEAD, fusion=replace(HEAD.fusion, prototype_weight=0.0)),
            QUICK,
            {"prompts"},
        ),
    ],
    ids=["captions", "frozen prompts", "prompts", "frozen keys", "fixed prompts", "weight 0"],
)
def test_gradients_reach_what_is_declared_trainable(
    head_config: HeadConfig, train_config: TrainConfig, tuned: set[str]
) -> None:
    head = WORLD.head(head_config, seed=0).start(IMAGES, seed=0)
    before = tuned_state(head)
    fit(head, TRAIN, VALID, replace(train_config, select="last", weight_decay=0.0))
    after = tuned_state(head)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed - {"class_embeddings"} == tuned
    assert ("class_embeddings" in changed) == ("prompts" in tuned)


def test_unknown_labels_change_nothing_they_should_not() -> None:
    """Wholly unknown items carry no loss: in full batches they leave the tuned tensors alone."""
    alone = replace(IMAGES.take(torch.arange(20)), targets=IMAGES.targets[:20])
    blank = replace(IMAGES, targets=torch.full_like(IMAGES.targets, -1)).take(torch.arange(20))
    for kind in ("hinge", "bce"):
        config = TrainConfig(
            epochs=2, train_on="images", batch_size=64, select="last", loss=LossConfig(kind=kind)
        )
        # The mean over the items halves with blank ones among them; Adam forgets the scale.
        # It does not where gradients vanish, as those of keys that resemble nothing do.
        head = replace(HEAD, adapter=AdapterConfig(kind="cache", per_class=8, beta=5.5))
        pure, mixed = WORLD.head(head).start(IMAGES), WORLD.head(head).start(IMAGES)
        fit(pure, [alone], VALID, config)
        fit(mixed, [alone, blank], VALID, config)
        first, second = tuned_state(pure), tuned_state(mixed)
        for name in first:
            assert torch.allclose(first[name], second[name], atol=1e-4), (kind, name)


def test_order_of_the_sets_within_a_full_batch_does_not_matter() -> None:
    config = TrainConfig(epochs=2, batch_size=512, select="last")
    states = []
    for order in (torch.arange(len(IMAGES)), torch.randperm(len(IMAGES))):
        head = WORLD.head(HEAD).start(IMAGES)
        fit(head, [CAPTIONS, IMAGES.take(order)], VALID, config)
        states.append(tuned_state(head))
    for name in states[0]:
        assert torch.allclose(states[0][name], states[1][name], atol=1e-4), name


def test_the_best_epoch_is_kept_and_the_head_left_baked() -> None:
    rows: list[dict[str, object]] = []
    head = WORLD.head(HEAD)
    config = replace(QUICK, epochs=6, lr_prototypes=0.05, lr_prompts=0.05)
    result = fit(head, TRAIN, VALID, config, log=rows.append)
    values = [row.valid_map for row in result.history]
    assert result.best_epoch == values.index(max(values))
    assert [row["epoch"] for row in rows] == list(range(7)) and rows[0]["loss"] is None
    assert result.valid_map == rows[result.best_epoch]["valid_map"]
    kept = mean_ap(head, VALID)
    assert kept == pytest.approx(result.valid_map)
    restored = restore_head(HEAD, NAMES, tuned_state(head))
    assert torch.equal(restored.score_items(TEST), head.score_items(TEST))


def test_a_run_that_only_harms_keeps_the_start() -> None:
    config = replace(QUICK, optimiser="sgd", lr_prompts=1e4, lr_prototypes=1e4, lr_adapter=1e4)
    head, result = trained(replace(config, select="best"))
    assert result.best_epoch == 0
    start = WORLD.head(HEAD).start(IMAGES)
    assert torch.equal(head.score_items(TEST), start.score_items(TEST))


def test_last_epoch_average_and_sparse_judging() -> None:
    _, result = trained(replace(QUICK, epochs=5, select="last", evaluate_every=2))
    assert result.best_epoch == 5
    assert [row.valid_map is not None for row in result.history] == [1, 0, 1, 0, 1, 1]
    last, _ = trained(replace(QUICK, select="last"))
    averaged, _ = trained(replace(QUICK, select="last", ema=0.9))
    start = tuned_state(WORLD.head(HEAD).start(IMAGES))
    moved, behind = (
        (tuned_state(head)["prototypes.vectors"] - start["prototypes.vectors"]).norm()
        for head in (last, averaged)
    )
    assert 0 < behind < moved


def test_training_goes_on_from_a_loaded_state() -> None:
    head, _ = trained()
    again = _load_tuned(WORLD.head(HEAD), tuned_state(head))
    result = fit(again, TRAIN, VALID, QUICK)
    assert result.history[0].valid_map == pytest.approx(mean_ap(head, VALID))


def test_sets_of_a_kind_are_pooled() -> None:
    halves = [IMAGES.take(torch.arange(60)), IMAGES.take(torch.arange(60, 120))]
    pooled, whole = trained(train=[*halves, CAPTIONS])[0], trained()[0]
    first, second = tuned_state(pooled), tuned_state(whole)
    assert all(torch.equal(first[name], second[name]) for name in first)


def without_class(items: ItemSet, index: int) -> ItemSet:
    return replace(items, targets=items.targets * (torch.arange(CLASSES) != index).to(torch.int8))


@pytest.mark.parametrize(
    ("train", "valid", "head_config", "config", "message"),
    [
        ([CAPTIONS], VALID, HEAD, QUICK, "training on both needs images, but there are none"),
        ([IMAGES], VALID, HEAD, QUICK, "training on both needs captions"),
        (
            [CAPTIONS],
            VALID,
            HEAD,
            replace(QUICK, train_on="captions"),
            "prototypes and adapter start from images",
        ),
        ([without_class(IMAGES, 3), CAPTIONS], VALID, HEAD, QUICK, "no training image shows 'dog'"),
        (
            TRAIN,
            replace(VALID, targets=torch.zeros_like(VALID.targets)),
            HEAD,
            QUICK,
            "held-out items show no class",
        ),
        (
            TRAIN,
            VALID,
            HEAD,
            replace(QUICK, lr_prompts=0.0, lr_prototypes=0.0, lr_adapter=0.0),
            "nothing to train",
        ),
        (
            TRAIN,
            VALID,
            replace(HEAD, prompts=PromptConfig(kind="fixed")),
            replace(QUICK, train_on="captions"),
            "captions train prompts alone",
        ),
    ],
)
def test_what_cannot_be_trained_says_why(
    train: list[ItemSet],
    valid: ItemSet,
    head_config: HeadConfig,
    config: TrainConfig,
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        fit(WORLD.head(head_config), train, valid, config)


def test_divergence_stops_the_run() -> None:
    head = WORLD.head(replace(HEAD, prototypes=PrototypeConfig(enabled=False))).start(IMAGES)
    with torch.no_grad():
        head.prompts.global_context.fill_(float("nan"))
    with pytest.raises(UserError, match=r"training diverged in epoch 0: lower the learning rates"):
        fit(head, TRAIN, VALID, QUICK)


def test_other_classes_are_refused() -> None:
    fewer = replace(CAPTIONS, targets=CAPTIONS.targets[:, :4])
    with pytest.raises(ValueError, match="caption targets have 4 classes but the head has 6"):
        fit(WORLD.head(HEAD), [IMAGES, fewer], VALID, QUICK)
