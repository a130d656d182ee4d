"""Heads with added classes: earlier scores to the last bit, added ones by their formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from t2ipal.errors import UserError
from t2ipal.method.build import build_head
from t2ipal.method.checkpoint import additions, restore_head, tuned_state
from t2ipal.method.grown import GrownHead, added_config
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import (
    AdapterConfig,
    FusionConfig,
    HeadConfig,
    PromptConfig,
    PrototypeConfig,
)
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import method_config
from t2ipal.method.prompts import ClassTokens, LearnedPrompts
from tiny_head import NAMES, TEXT_WIDTH, WIDTH, generator, make_world, unit

WORLD = make_world()
IMAGES, CAPTIONS = WORLD.images(30, seed=1), WORLD.captions(20, seed=2)
SMALL = HeadConfig(prompts=PromptConfig(context_tokens=4))
CACHE = replace(SMALL, adapter=AdapterConfig(kind="cache"))
STANDARDISED = FusionConfig(kind="standardised")
HEADS = {
    "full": SMALL,
    "cache": CACHE,
    "bottleneck": replace(
        SMALL, adapter=AdapterConfig(kind="bottleneck"), prototypes=PrototypeConfig(per_class=3)
    ),
    "projection": replace(SMALL, adapter=AdapterConfig(kind="projection", per_class=3)),
    "per class": replace(SMALL, prompts=PromptConfig(context_tokens=4, per_class=True)),
    "fixed": replace(SMALL, prompts=PromptConfig(kind="fixed")),
    "prompts": replace(
        SMALL, adapter=AdapterConfig(kind="none"), prototypes=PrototypeConfig(enabled=False)
    ),
    "dual": method_config("dualcoop").head,
    "standardised": replace(SMALL, fusion=STANDARDISED),
    "standardised text": replace(SMALL, prompts=PromptConfig(kind="fixed"), fusion=STANDARDISED),
    "prototypes alone": replace(
        SMALL, fusion=FusionConfig(global_weight=0.0, local_weight=0.0, prototype_weight=1.0)
    ),
}


def started(config: HeadConfig = SMALL) -> T2IPALHead:
    head = WORLD.head(config)
    return head.start(IMAGES) if config.needs_images else head


def grow(
    head: T2IPALHead, names: tuple[str, ...], seed: int, images: ItemSet | None = None
) -> GrownHead:
    made = generator(seed)
    parts = [torch.randn(3, TEXT_WIDTH, generator=made) for _ in names]
    added = build_head(
        added_config(head.config, images=images is not None),
        names,
        tokens=ClassTokens(WORLD.tokens.sos, parts, WORLD.tokens.eos_embedding, WORLD.tokens.init),
        text_encoder=WORLD.tower,
        class_embeddings=unit(len(names), WIDTH, seed=seed),
    )
    grown = GrownHead.of(head, added)
    if images is not None:
        added.start(images)
    return grown


def shown(count: int = 5) -> ItemSet:
    return replace(IMAGES.take(torch.arange(count)), targets=torch.ones(count, 1, dtype=torch.int8))


@pytest.mark.parametrize("kind", HEADS)
@torch.no_grad()
def test_earlier_classes_keep_every_bit(kind: str) -> None:
    head = started(HEADS[kind]).bake()
    for parameter in head.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    images = head.scores(IMAGES.global_, IMAGES.local)
    one = grow(head, ("gnu", "hen"), 3)
    two = grow(one, ("ibis",), 4, shown())
    three = grow(two, ("jay", "koi", "lynx"), 5)
    between = three.scores(IMAGES.global_, IMAGES.local)
    for name in ("fused", "global_", "local", "prototype", "adapter", "heatmap"):
        for before, classes in ((images, 6), (two.scores(IMAGES.global_, IMAGES.local), 9)):
            values, now = getattr(before, name), getattr(between, name)
            assert (values is None) == (now is None)
            assert values is None or torch.equal(now[..., :classes], values), name
    assert torch.equal(three.score_items(IMAGES), between.fused) and between.fused.isfinite().all()
    if kind != "prototypes alone":  # captions have none
        captions = head.scores(CAPTIONS.global_, CAPTIONS.local, CAPTIONS.mask, "caption")
        now = three.scores(CAPTIONS.global_, CAPTIONS.local, CAPTIONS.mask, "caption")
        assert torch.equal(now.fused[:, :6], captions.fused) and now.fused.shape == (20, 12)
    assert three.names == (*NAMES, "gnu", "hen", "ibis", "jay", "koi", "lynx")


@pytest.mark.parametrize("kind", HEADS)
def test_a_grown_head_is_saved_and_restored_to_the_byte(kind: str) -> None:
    head = grow(grow(started(HEADS[kind]), ("gnu", "hen"), 3), ("ibis",), 4, shown())
    state = tuned_state(head)
    restored = restore_head(HEADS[kind], head.names, state, additions(head))
    assert torch.equal(restored.score_items(IMAGES), head.score_items(IMAGES))
    assert tuned_state(restored).keys() == state.keys()
    state["added.2.x"] = torch.zeros(1)
    with pytest.raises(UserError, match="does not know"):
        restore_head(HEADS[kind], head.names, state, additions(head))


@torch.no_grad()
def test_a_class_with_the_tokens_of_another_scores_as_it_does() -> None:
    """By the same context, prompts alone: the added class is a copy of one that is there."""
    head = started(HEADS["prompts"])
    assert isinstance(head.prompts, LearnedPrompts)
    for context in (head.prompts.global_context, head.prompts.local_context):
        context.add_(torch.randn(context.shape, generator=generator(7)))
    tokens = replace(WORLD.tokens, names=WORLD.tokens.names[2:3])
    added = build_head(
        added_config(head.config, images=False), ("copy",), tokens=tokens,
        text_encoder=WORLD.tower,
    )  # fmt: skip
    scores = GrownHead.of(head, added).score_items(IMAGES)
    assert torch.allclose(scores[:, 6], scores[:, 2], atol=1e-5)


@torch.no_grad()
def test_standardised_by_the_first_classes_one_number_at_a_time() -> None:
    head = started(HEADS["standardised text"])
    grown = grow(head, ("gnu",), 3)
    scores = grown.scores(IMAGES.global_, IMAGES.local)
    for b in range(len(IMAGES)):
        total = 0.0
        for branch in (scores.global_[b], scores.local[b], scores.prototype[b]):
            first = branch[:6].double()
            total += float((branch[6] - first.mean()) / first.std(correction=0))
        assert float(scores.fused[b, 6]) == pytest.approx(total, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, CACHE], ids=["class-cache", "cache"])
def test_a_part_without_images_stands_where_the_text_does(config: HeadConfig) -> None:
    grown = grow(started(config), ("gnu",), 3)
    scores = grown.scores(IMAGES.global_, IMAGES.local)
    text = scores.global_ - scores.adapter if config is CACHE else scores.global_

    def standing(values: torch.Tensor) -> torch.Tensor:
        first = values[:, :6].double()
        return (values[:, 6] - first.mean(dim=1)) / first.std(dim=1, correction=0)

    z = (standing(text) + standing(scores.local)) / 2
    assert torch.allclose(standing(scores.prototype), z, atol=1e-3)
    assert torch.allclose(standing(scores.adapter), z, atol=1e-3)
    assert torch.allclose(scores.fused, sum(scores.branches.values()), atol=1e-5)


@torch.no_grad()
def test_images_start_the_new_class_s_own_prototype_and_bank() -> None:
    grown = grow(started(CACHE), ("gnu",), 3, shown())
    scores = grown.scores(IMAGES.global_, IMAGES.local)
    added = grown.groups[1]
    assert added.prototypes is not None and added.adapter is not None
    assert torch.equal(added.adapter.keys, IMAGES.global_[:5])
    seen, unseen = scores.prototype[:5, 6].mean(), scores.prototype[5:, 6].mean()
    assert seen > unseen and scores.adapter[:5, 6].mean() > scores.adapter[5:, 6].mean()
    config: HeadConfig = added.config
    assert config.needs_images and not config.prompts.per_class


@torch.no_grad()
def test_a_cache_of_class_features_has_nothing_against_a_new_class() -> None:
    """Its images show it, all of them: what the cache would add is placed, beside its prototype."""
    scores = grow(started(SMALL), ("gnu",), 3, shown()).scores(IMAGES.global_, IMAGES.local)
    without = replace(SMALL, adapter=AdapterConfig(kind="none"))
    alone = grow(started(without), ("gnu",), 3, shown()).scores(IMAGES.global_, IMAGES.local)
    added = scores.prototype[:, 6] - alone.prototype[:, 6]
    assert torch.allclose(added, scores.adapter[:, 6], atol=1e-4)
    assert added.abs().max() > 0.1
