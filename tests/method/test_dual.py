"""DualCoOp against a loop written from its formulas, and what it shares with the other heads."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from t2ipal.errors import UserError
from t2ipal.method.checkpoint import _load_tuned, restore_head, tuned_state
from t2ipal.method.dual import DualCoOpHead
from t2ipal.method.head_config import AdapterConfig, HeadConfig, PromptConfig
from t2ipal.method.items import ItemSet
from t2ipal.method.losses import _asymmetric
from t2ipal.method.methods import method_config
from t2ipal.method.prompts import _PromptLayout
from t2ipal.method.train_config import TrainConfig
from t2ipal.method.training import fit
from t2ipal.metrics.ranking import average_precision
from tiny_head import CLASSES, NAMES, make_world

WORLD = make_world()
IMAGES, CAPTIONS = WORLD.images(120, seed=1), WORLD.captions(20, seed=2)
VALID, TEST = WORLD.images(60, seed=3), WORLD.images(300, seed=4)
DUAL = method_config("dualcoop")
assert DUAL.train is not None
TRAIN: TrainConfig = DUAL.train


def apart(deviation: float = 1.0) -> DualCoOpHead:
    """A head whose two contexts are far apart, so that every part of the score matters."""
    head = WORLD.head(DUAL.head)
    assert isinstance(head, DualCoOpHead)
    with torch.no_grad():
        for seed, context in enumerate((head.prompts.global_context, head.prompts.local_context)):
            context.normal_(std=deviation, generator=torch.Generator().manual_seed(seed))
    return head


@torch.no_grad()
@pytest.mark.parametrize("items", [IMAGES.take(torch.arange(12)), CAPTIONS], ids=lambda i: i.kind)
def test_probability_equals_its_formulas(items: ItemSet) -> None:
    """One item, class and region at a time: softmax of the positive prompt over the regions at 20,
    both pooled with it, times 100, softmax of the two."""
    head = apart()
    layout = _PromptLayout.of(WORLD.tokens, 16, "end")
    negative = WORLD.tower(layout.fill(head.prompts.global_context), layout.eos)
    positive = WORLD.tower(layout.fill(head.prompts.local_context), layout.eos)
    scores = head.scores(items.global_, items.local, items.mask, items.kind)
    probabilities = scores.fused.sigmoid()
    seen = []
    for b in range(len(items)):
        regions = items.local[b] if items.mask is None else items.local[b][items.mask[b]]
        for c in range(CLASSES):
            for_it = F.cosine_similarity(regions, positive[c][None]).double().tolist()
            against = F.cosine_similarity(regions, negative[c][None]).double().tolist()
            weights = [math.exp(20 * s) for s in for_it]
            total = sum(weights)
            plus = 100 * sum(w / total * s for w, s in zip(weights, for_it, strict=True))
            minus = 100 * sum(w / total * s for w, s in zip(weights, against, strict=True))
            expected = math.exp(plus) / (math.exp(plus) + math.exp(minus))
            assert float(probabilities[b, c]) == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert float(scores.fused[b, c]) == pytest.approx(plus - minus, rel=1e-3, abs=1e-3)
            seen.append(expected)
    assert 0.05 < sum(seen) / len(seen) < 0.95  # else the loop above shows nothing
    assert torch.allclose(scores.global_ + scores.local, scores.fused, atol=1e-4)
    assert torch.allclose(scores.heatmap.sum(dim=1), torch.ones(len(items), CLASSES))


def test_its_global_feature_counts_for_nothing() -> None:
    head = apart()
    other = replace(IMAGES, global_=IMAGES.global_.flip(0))
    assert torch.equal(head.score_items(other), head.score_items(IMAGES))


def test_training_lifts_it_above_its_start_and_moves_both_contexts_alone() -> None:
    head = WORLD.head(DUAL.head)
    before = {name: value.detach().clone() for name, value in head.named_parameters()}
    start = np.nanmean(average_precision(head.score_items(TEST).numpy(), TEST.targets.numpy()))
    fit(head, [IMAGES, CAPTIONS], VALID, replace(TRAIN, epochs=20, lr_prompts=1e-2, select="best"))
    after = np.nanmean(average_precision(head.score_items(TEST).numpy(), TEST.targets.numpy()))
    assert after > start + 0.07
    moved = [name for name, value in head.named_parameters() if not value.equal(before[name])]
    assert moved == ["prompts.global_context", "prompts.local_context"]


def test_the_loss_is_taken_on_the_log_odds_with_their_own_zero() -> None:
    """A step of plain gradient descent on the asymmetric loss of s+ - s-, nothing centred."""
    head = apart(0.1)
    loss = _asymmetric(
        head.scores(IMAGES.global_, IMAGES.local).fused, IMAGES.targets, None, 1.0, 2.0, 0.05
    )
    pair = [head.prompts.global_context, head.prompts.local_context]
    expected = [c.detach() - 1e-3 * g for c, g in zip(pair, torch.autograd.grad(loss, pair))]  # noqa: B905
    config = replace(TRAIN, optimiser="sgd", momentum=0.0, lr_prompts=1e-3, warmup=0.0)
    config = replace(config, epochs=1, batch_size=len(IMAGES))
    fit(head, [IMAGES], VALID, replace(config, weight_decay=0.0, select="last"))
    for context, wanted in zip(pair, expected, strict=True):
        assert torch.allclose(context, wanted, atol=1e-5)


def test_unknown_labels_do_not_change_the_gradient() -> None:
    """Features of a class say nothing where its label is unknown: other labels there, same step."""
    hidden = torch.rand(IMAGES.targets.shape, generator=torch.Generator().manual_seed(5)) < 0.5
    partly = IMAGES.targets.masked_fill(hidden, -1)
    head = apart(0.1)
    pair = [head.prompts.global_context, head.prompts.local_context]
    fused = head.scores(IMAGES.global_, IMAGES.local).fused
    gradients = []
    for kept in (fused, fused.detach().where(hidden, fused)):
        loss = _asymmetric(kept, partly, 1.0, 2.0, 0.05)
        gradients.append(torch.autograd.grad(loss, pair, retain_graph=True))
    for whole, known in zip(*gradients, strict=True):
        assert torch.allclose(whole, known, rtol=1e-5, atol=1e-7) and whole.abs().sum() > 0


def test_saved_and_loaded_it_scores_the_same_under_its_own_names() -> None:
    head = apart().bake()
    state = tuned_state(head)
    assert set(state) == {
        f"{what}{part}{end}"
        for what, end in (("class_embeddings.", ""), ("prompts.", "_context"))
        for part in ("positive", "negative")
    }
    restored = restore_head(DUAL.head, NAMES, state)
    assert isinstance(restored, DualCoOpHead)
    assert torch.equal(restored.score_items(TEST), head.score_items(TEST))
    again = _load_tuned(WORLD.head(DUAL.head), state).thaw()
    assert torch.allclose(again.score_items(TEST), head.score_items(TEST), atol=1e-4)


def test_constants_are_those_of_the_published_code() -> None:
    head = DUAL.head
    assert head.logit_scale == 5 * 20 and 1 / head.heatmap.image_temperature == pytest.approx(20)
    assert (head.prompts.context_tokens, head.prompts.start_deviation) == (16, 0.02)
    assert (head.prompts.kind, head.prompts.start) == ("dual", "random")
    assert TRAIN.train_on == "images"
    assert (TRAIN.loss.kind, TRAIN.loss.positive_focus, TRAIN.loss.negative_focus) == (
        "asymmetric",
        1.0,
        2.0,
    )
    assert method_config("dualcoop/real").real_only
    assert method_config("dualcoop/per-class").head.prompts.per_class


def test_it_needs_images_and_takes_no_image_space_parts() -> None:
    with pytest.raises(UserError, match="training on images needs images, but there are none"):
        fit(WORLD.head(DUAL.head), [CAPTIONS], VALID, TRAIN)
    with pytest.raises(UserError, match=r"prompts\.kind dual scores by its prompts alone"):
        HeadConfig(prompts=PromptConfig(kind="dual"), adapter=AdapterConfig(kind="cache"))
