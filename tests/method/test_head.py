from __future__ import annotations

import math
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from t2ipal.errors import UserError
from t2ipal.method.adapter import some_of_each
from t2ipal.method.build import build_head
from t2ipal.method.checkpoint import _load_tuned, restore_head, tuned_state
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import (
    AdapterConfig,
    FusionConfig,
    HeadConfig,
    PromptConfig,
    PrototypeConfig,
)
from t2ipal.method.methods import METHOD_NAMES, method_config
from t2ipal.method.prompts import _PromptLayout
from tiny_head import CLASSES, NAMES, WIDTH, make_world, unit

WORLD = make_world()
IMAGES, CAPTIONS = WORLD.images(30, seed=1), WORLD.captions(20, seed=2)
SMALL = HeadConfig(prompts=PromptConfig(context_tokens=4))
KINDS = {
    "full": SMALL,
    "cache": replace(SMALL, adapter=AdapterConfig(kind="cache")),
    "bottleneck": replace(
        SMALL, adapter=AdapterConfig(kind="bottleneck"), prototypes=PrototypeConfig(per_class=3)
    ),
    "projection": replace(SMALL, adapter=AdapterConfig(kind="projection", per_class=3)),
    "per class": replace(SMALL, prompts=PromptConfig(context_tokens=4, per_class=True)),
    "fixed": replace(SMALL, prompts=PromptConfig(kind="fixed")),
    "text start": replace(SMALL, prototypes=PrototypeConfig(start="text", per_class=2)),
    "typical, frozen": replace(
        SMALL,
        adapter=AdapterConfig(kind="cache", selection="typical", per_class=3, learn_keys=False),
    ),
    "name in the middle": replace(
        SMALL, prompts=PromptConfig(context_tokens=4, class_position="middle", start="random")
    ),
    "tai-dpt-original": method_config("tai-dpt-original").head,
    "prompts": replace(
        SMALL, adapter=AdapterConfig(kind="none"), prototypes=PrototypeConfig(enabled=False)
    ),
}


def started(config: HeadConfig = SMALL) -> T2IPALHead:
    head = WORLD.head(config)
    return head.start(IMAGES) if config.needs_images else head


@torch.no_grad()
def test_tai_dpt_equals_its_formulas() -> None:
    """Written from the published formulas, one item, class and position at a time."""
    head = WORLD.head(method_config("tai-dpt").head)
    for context in (head.prompts.global_context, head.prompts.local_context):
        context.normal_(generator=torch.Generator().manual_seed(len(context)))
    layout = _PromptLayout.of(WORLD.tokens, 16, "end")
    text_global = WORLD.tower(layout.fill(head.prompts.global_context), layout.eos)
    text_local = WORLD.tower(layout.fill(head.prompts.local_context), layout.eos)
    for items, sharpness in ((IMAGES, 40), (CAPTIONS, 50)):
        scores = head.scores(items.global_, items.local, items.mask, items.kind)
        for b in range(len(items)):
            for c in range(CLASSES):
                by_global = 4 * float(F.cosine_similarity(items.global_[b], text_global[c], dim=0))
                cosines = F.cosine_similarity(items.local[b], text_local[c][None], dim=1).tolist()
                if items.mask is not None:
                    cosines = [
                        s for s, real in zip(cosines, items.mask[b].tolist(), strict=True) if real
                    ]
                top = sum(math.exp(sharpness * s) for s in cosines)
                by_local = sum(math.exp(sharpness * s) / top * 4 * s for s in cosines)
                assert float(scores.global_[b, c]) == pytest.approx(by_global, rel=1e-4, abs=1e-5)
                assert float(scores.local[b, c]) == pytest.approx(by_local, rel=1e-4, abs=1e-5)
                merged = 0.5 * by_global + 0.5 * by_local
                assert float(scores.fused[b, c]) == pytest.approx(merged, rel=1e-4, abs=1e-5)


def test_zero_shot_is_the_cosine_with_the_class_embeddings() -> None:
    head = WORLD.head(method_config("zero-shot").head)
    expected = F.cosine_similarity(IMAGES.global_[:, None], WORLD.zero_shot[None], dim=-1)
    assert torch.allclose(head.score_items(IMAGES) / 4, expected, atol=1e-6)
    assert sum(1 for _ in head.parameters()) == 0


@pytest.mark.parametrize("kind", ["full", "cache"])
def test_full_score_is_put_together_from_its_parts(kind: str) -> None:
    head = started(KINDS[kind])
    scores = head.scores(IMAGES.global_, IMAGES.local)
    classes = head.class_embeddings()
    assert head.adapter is not None and head.prototypes is not None
    pooled = torch.einsum("bpc,bpd->bcd", scores.heatmap, IMAGES.local)
    z = F.normalize(pooled, dim=-1)
    if kind == "cache":
        on_prototype, on_global = torch.zeros(()), head.adapter(IMAGES.global_)[1]
        assert on_global is not None
    else:
        on_prototype, on_global = head.adapter.of_features(z), torch.zeros(())
    cosines = IMAGES.global_ @ classes.global_.T
    assert torch.allclose(scores.global_, 4 * (cosines + on_global), atol=1e-5)
    assert torch.allclose(scores.adapter, 4 * (on_prototype + on_global), atol=1e-5)
    vectors = head.prototypes.vectors[:, 0]
    expected = 4 * (F.cosine_similarity(pooled, vectors[None], dim=-1) + on_prototype)
    assert torch.allclose(scores.prototype, expected, atol=1e-5)
    assert torch.allclose(scores.heatmap.sum(dim=1), torch.ones(30, CLASSES))
    assert list(scores.branches) == ["global", "local", "prototype"]


def test_captions_meet_the_prompts_alone() -> None:
    full, prompts = started(), WORLD.head(KINDS["prompts"])
    found = full.scores(CAPTIONS.global_, CAPTIONS.local, CAPTIONS.mask, "caption")
    expected = prompts.scores(CAPTIONS.global_, CAPTIONS.local, CAPTIONS.mask, "caption")
    assert found.prototype is None and found.adapter is None
    assert torch.equal(found.fused, expected.fused)
    WORLD.head(SMALL).scores(CAPTIONS.global_, CAPTIONS.local, CAPTIONS.mask, "caption")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_depend_on_the_item_alone(kind: str) -> None:
    head = started(KINDS[kind])
    whole = head.score_items(IMAGES)
    assert torch.allclose(head.score_items(IMAGES, batch_size=7), whole, atol=1e-5)
    order = torch.randperm(30)
    assert torch.allclose(head.score_items(IMAGES.take(order)), whole[order], atol=1e-5)
    half = replace(IMAGES, local=IMAGES.local.half())
    assert torch.allclose(head.score_items(half), whole, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_head_scores_the_same_bytes_without_its_tower(kind: str) -> None:
    head = started(KINDS[kind])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    saved = safetensors.torch.save(tuned_state(head))
    expected = head.bake().score_items(IMAGES)
    restored = restore_head(KINDS[kind], NAMES, safetensors.torch.load(saved))
    assert torch.equal(restored.score_items(IMAGES), expected)
    assert safetensors.torch.save(tuned_state(restored)) == saved
    loaded = _load_tuned(WORLD.head(KINDS[kind], seed=5), safetensors.torch.load(saved))
    assert torch.equal(loaded.score_items(IMAGES), expected)
    assert torch.allclose(loaded.thaw().score_items(IMAGES), expected, atol=1e-5)


def test_the_state_holds_only_what_was_tuned() -> None:
    state = tuned_state(started())
    assert set(state) == {
        "class_embeddings.global",
        "class_embeddings.local",
        "prompts.global_context",
        "prompts.local_context",
        "prototypes.vectors",
        "adapter.present",
        "adapter.absent",
    }
    assert set(tuned_state(WORLD.head(method_config("zero-shot").head))) == {
        "class_embeddings.global",
        "class_embeddings.local",
    }


def test_loading_is_strict_and_changes_nothing_when_it_fails() -> None:
    head = started(KINDS["cache"])
    before, state = head.score_items(IMAGES), tuned_state(head)
    broken = {
        "no tensor 'adapter.keys'": {k: v for k, v in state.items() if k != "adapter.keys"},
        "tensor 'bias' that its configuration does not": {**state, "bias": torch.zeros(1)},
        r"'prototypes.vectors' has shape \[6, 2, 32\].*\[6, 1, D=32\]": {
            **state,
            "prototypes.vectors": torch.zeros(6, 2, WIDTH),
        },
        r"'adapter.values' has shape \[3, 6\].*\[N=\d+, 6\]": {
            **state,
            "adapter.values": torch.zeros(3, 6),
        },
        "contexts are 8 wide but this text tower's token embeddings 16": {
            **state,
            "prompts.global_context": torch.zeros(4, 8),
            "prompts.local_context": torch.zeros(4, 8),
        },
    }
    for message, tensors in broken.items():
        with pytest.raises(UserError, match=message):
            _load_tuned(head, tensors)
    assert torch.equal(head.score_items(IMAGES), before)
    with pytest.raises(UserError, match="has shape"):
        restore_head(KINDS["cache"], NAMES[:5], state)


def test_baking_saves_the_text_tower_and_changes_no_score() -> None:
    head = started()
    before = head.score_items(IMAGES)
    head.bake()
    assert torch.equal(head.score_items(IMAGES), before)
    with torch.no_grad():
        head.prompts.global_context.add_(1.0)
    assert torch.equal(head.score_items(IMAGES), before)
    assert not torch.allclose(head.thaw().score_items(IMAGES), before)


def test_a_restored_head_cannot_embed_its_prompts_again() -> None:
    head = restore_head(SMALL, NAMES, tuned_state(started()))
    with pytest.raises(RuntimeError, match="without a text tower"):
        head.thaw().score_items(IMAGES)


def test_one_class_works() -> None:
    config = replace(SMALL, prompts=PromptConfig(kind="fixed"))
    head = build_head(config, ["ant"], class_embeddings=WORLD.truth[:1])
    single = replace(IMAGES, targets=IMAGES.targets[:, :1])
    scores = head.start(single).score_items(single)
    assert scores.isfinite().all() and len(scores.unique()) == 30


@pytest.mark.parametrize("most", [4096, 3])
def test_prototypes_start_from_the_class_features_of_images_that_show_the_class(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("t2ipal.method.head._START_IMAGES", most)
    chosen = some_of_each(IMAGES.targets == 1, most, seed=0)
    head = started()
    weights = head.scores(IMAGES.global_, IMAGES.local).heatmap
    features = F.normalize(torch.einsum("bpc,bpd->bcd", weights, IMAGES.local), dim=-1)
    assert head.prototypes is not None
    for c in range(CLASSES):
        mean = features[chosen[:, c], c].mean(dim=0)
        assert torch.allclose(head.prototypes.vectors[c, 0], F.normalize(mean, dim=0), atol=1e-5)


def test_prototypes_can_start_from_the_text() -> None:
    head = started(KINDS["text start"])
    assert head.prototypes is not None
    assert torch.equal(head.prototypes.vectors[:, 0], head.class_embeddings().local)


def test_misuse_is_named() -> None:
    head = WORLD.head(SMALL)
    with pytest.raises(RuntimeError, match="never started"):
        head.scores(IMAGES.global_, IMAGES.local)
    with pytest.raises(RuntimeError, match="never started"):
        tuned_state(head)
    with pytest.raises(ValueError, match="not from captions"):
        head.start(CAPTIONS)
    with pytest.raises(ValueError, match="targets have 5 classes but the head has 6"):
        head.start(replace(IMAGES, targets=IMAGES.targets[:, :5]))
    head.start(IMAGES)
    with pytest.raises(ValueError, match="16 wide but class embeddings 32"):
        head.scores(unit(2, 16), unit(2, 3, 16))
    with pytest.raises(ValueError, match="not L2-normalised"):
        head.scores(3 * IMAGES.global_, IMAGES.local)
    missing = replace(IMAGES, targets=IMAGES.targets * (torch.arange(CLASSES) != 2).to(torch.int8))
    with pytest.raises(UserError, match="no training image shows 'cat'"):
        WORLD.head(SMALL).start(missing)


@pytest.mark.parametrize("start", ["k-means", "mean", "text"])
def test_prototypes_of_a_class_without_image_are_refused(start: str) -> None:
    """From whatever they start: they are trained on images."""
    targets = IMAGES.targets * (torch.arange(CLASSES) % 2 == 0).to(torch.int8)
    targets[:, 1] = -1  # unknown is not shown either
    config = replace(
        SMALL, prototypes=PrototypeConfig(start=start), adapter=AdapterConfig(kind="none")
    )
    with pytest.raises(UserError, match=r"no training image shows 'bee', 'dog'.*add captions"):
        WORLD.head(config).start(replace(IMAGES, targets=targets))


@pytest.mark.parametrize("kind", ["class-cache", "cache", "projection", "bottleneck"])
def test_a_bank_of_a_class_without_image_is_refused(kind: str) -> None:
    targets = IMAGES.targets * (torch.arange(CLASSES) != 1).to(torch.int8)
    config = replace(
        SMALL, prototypes=PrototypeConfig(enabled=False), adapter=AdapterConfig(kind=kind)
    )
    head, images = WORLD.head(config), replace(IMAGES, targets=targets)
    if kind == "bottleneck":
        assert head.start(images).started
        return
    with pytest.raises(UserError, match="no training image shows 'bee'"):
        head.start(images)


def test_building_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="class tokens and a text encoder"):
        build_head(SMALL, NAMES, tokens=WORLD.tokens)
    with pytest.raises(ValueError, match="tokens of 6 classes for 5 names"):
        build_head(SMALL, NAMES[:5], tokens=WORLD.tokens, text_encoder=WORLD.tower)
    with pytest.raises(ValueError, match="need class embeddings"):
        build_head(KINDS["fixed"], NAMES)
    with pytest.raises(ValueError, match="embeddings of 6 classes for 5 names"):
        build_head(KINDS["fixed"], NAMES[:5], class_embeddings=WORLD.zero_shot)
    with pytest.raises(UserError, match=r"class 'bee' has 9 tokens but the text tower takes 8"):
        short = replace(WORLD.tokens, limit=8)
        build_head(SMALL, NAMES, tokens=short, text_encoder=WORLD.tower)
    with pytest.raises(UserError, match="at least one"):
        build_head(KINDS["fixed"], [], class_embeddings=torch.zeros(0, WIDTH))


def test_every_method_scores() -> None:
    scored = {name: started(method_config(name).head).score_items(IMAGES) for name in METHOD_NAMES}
    for scores in scored.values():
        assert scores.shape == (30, CLASSES) and scores.isfinite().all()
    assert torch.equal(scored["t2i-pal"], scored["t2i-pal/both"])
    for part in ("no-adapter", "no-prototypes", "no-heatmap", "standardised"):
        assert not torch.allclose(scored["t2i-pal"], scored[f"t2i-pal/{part}"], atol=1e-3)


def test_branch_of_weight_zero_is_not_fused() -> None:
    weights = FusionConfig(kind="raw", local_weight=0.0)
    scores = started(replace(SMALL, fusion=weights)).scores(IMAGES.global_, IMAGES.local)
    assert scores.prototype is not None
    assert torch.allclose(scores.fused, scores.global_ + scores.prototype)
