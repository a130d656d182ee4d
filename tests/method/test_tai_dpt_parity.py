"""``tai-dpt-original`` against the formulas of TaI-DPT, computed separately and the long way.

Guo et al., CVPR 2023, and what their code (github.com/guozix/TaI-DPT) makes of it. What stands here
shares the weights of an open_clip RN50, made at random, and the ids of its tokenizer with the
project, and nothing else: each prompt at all 77 positions, one sequence, head, item and class after
the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_tokens
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.method.build import build_head
from t2ipal.method.head import Scores, T2IPALHead
from t2ipal.method.items import ItemSet
from t2ipal.method.losses import loss_function
from t2ipal.method.methods import method_config
from t2ipal.method.training import fit
from t2ipal.vocabulary import Vocabulary
from tiny_clip import randomise_norms

METHOD = method_config("tai-dpt-original")
VOC = Vocabulary.load("voc2007")
CLASSES = tuple(item for item in VOC.classes if item.name in ("diningtable", "dog", "tvmonitor"))
NAMES = tuple(item.name for item in CLASSES)
CAPTIONS = ("A dog asleep under the dining table.", "two tv monitors", "a dog watches television")
LABELS = ((1, 1, 0), (0, 0, 1), (0, 1, 1))
CONTEXT, IMAGES, TOKENS = 16, 2, 77


# --- TaI-DPT, the long way -----------------------------------------------------------------------


def normed(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + layer.eps) * layer.weight + layer.bias


def slow_text_tower(model: Any, embeddings: Tensor) -> Tensor:
    """Token embeddings [77, Wt] of one text -> features of all its positions [77, D]."""
    x = embeddings + model.positional_embedding
    later = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    for block in model.transformer.resblocks:
        attention, heads = block.attn, block.attn.num_heads
        projected = normed(x, block.ln_1) @ attention.in_proj_weight.T + attention.in_proj_bias
        query, key, value = projected.chunk(3, dim=-1)
        width = query.shape[-1] // heads
        attended = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            logits = query[:, own] @ key[:, own].T / width**0.5
            weights = logits.masked_fill(later, float("-inf")).softmax(dim=-1)
            attended.append(weights @ value[:, own])
        out = attention.out_proj
        x = x + torch.cat(attended, dim=-1) @ out.weight.T + out.bias
        hidden = normed(x, block.ln_2) @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias
        hidden = hidden * torch.sigmoid(1.702 * hidden)  # QuickGELU, as in OpenAI's CLIP
        x = x + hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias
    return normed(x, model.ln_final) @ model.text_projection


def slow_class_embeddings(model: Any, tokenizer: Any, context: Tensor) -> list[Tensor]:
    """Unit [D] of each class: the prompt "X X .. X diningtable." with the context for every X."""
    found = []
    for name in NAMES:
        ids = tokenizer([" ".join(["X"] * CONTEXT) + f" {name}."])[0]
        words = model.token_embedding(ids)
        prompt = torch.cat([words[:1], context, words[1 + CONTEXT :]])
        feature = slow_text_tower(model, prompt)[int(ids.argmax())]
        found.append(feature / feature.norm())
    return found


def slow_image_features(visual: Any, feature_map: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Layer 4 of one image [W, h, w] -> unit global feature [D] and local ones, P times [D]."""
    pool = visual.attnpool
    positions = [feature_map[:, row, column] for row in range(7) for column in range(7)]
    mean = sum(positions) / len(positions)
    seen = [mean, *positions]
    keys = [pool.k_proj.weight @ x + pool.k_proj.bias for x in seen]
    values = [pool.v_proj.weight @ x + pool.v_proj.bias for x in seen]
    query = pool.q_proj.weight @ mean + pool.q_proj.bias
    width = len(query) // pool.num_heads
    attended = []
    for head in range(pool.num_heads):
        own = slice(head * width, (head + 1) * width)
        logits = torch.stack([query[own] @ key[own] / width**0.5 for key in keys])
        weights = logits.softmax(dim=0)
        attended.append(sum(w * v[own] for w, v in zip(weights, values, strict=True)))
    pooled = pool.c_proj.weight @ torch.cat(attended) + pool.c_proj.bias
    local = [pool.c_proj.weight @ value + pool.c_proj.bias for value in values[1:]]
    return pooled / pooled.norm(), [x / x.norm() for x in local]


def slow_logits(
    global_: Tensor,
    local: list[Tensor],
    padding: list[bool],
    sharpness: float,
    embeddings: tuple[list[Tensor], list[Tensor]],
) -> tuple[Tensor, Tensor]:
    """Global and local logits of one item, each [C]."""
    by_global = torch.stack([4.0 * (global_ @ text) for text in embeddings[0]])
    by_local = []
    for text in embeddings[1]:
        cosines = [x @ text - (1e4 if pad else 0.0) for x, pad in zip(local, padding, strict=True)]
        weights = (sharpness * torch.stack(cosines)).softmax(dim=0)
        by_local.append(sum(w * 4.0 * s for w, s in zip(weights, cosines, strict=True)))
    return by_global, torch.stack(by_local)


def slow_ranking_loss(logits: Tensor) -> Tensor:
    total = torch.zeros(())
    for scores, labels in zip(logits, LABELS, strict=True):
        for present, positive in zip(labels, scores, strict=True):
            for absent, negative in zip(labels, scores, strict=True):
                if present == 1 and absent == 0:
                    total = total + torch.clamp(1.0 - positive + negative, min=0.0)
    return total / len(logits)


# --- both, on the same weights and contexts ------------------------------------------------------


@dataclass
class Expected:
    """What the long way gives; logits are [items, C]."""

    images: dict[str, Tensor]
    captions: dict[str, Tensor]
    loss: Tensor
    gradients: tuple[Tensor, Tensor]


@dataclass
class Found:
    """What the project gives."""

    backbone: Backbone
    images: Scores
    captions: Scores
    loss: Tensor
    gradients: tuple[Tensor, ...]
    captions_set: ItemSet


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("RN50", force_quick_gelu=True)
        randomise_norms(model)
        # As large as what it is added to, so that pooling with and without it cannot be confused.
        torch.nn.init.normal_(model.visual.attnpool.positional_embedding)
    tokenizer = open_clip.get_tokenizer("RN50")
    config = open_clip.get_model_config("RN50")
    pool = METHOD.pool_positions
    return Backbone(
        model,
        tokenizer,
        ClipSettings(clip="RN50", device="cpu"),
        config=config,
        pool_positions=pool,
    )


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def contexts() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    first, second = 0.02 * torch.randn(2, CONTEXT, 512, generator=generator)
    return first, second


@pytest.fixture(scope="module")
def expected(backbone: Backbone, pixels: Tensor, contexts: tuple[Tensor, Tensor]) -> Expected:
    model, tokenizer = backbone.model, open_clip.get_tokenizer("RN50")
    learned = [context.clone().requires_grad_() for context in contexts]
    texts = tuple(slow_class_embeddings(model, tokenizer, context) for context in learned)
    feature_maps = model.visual.stem(pixels)
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        feature_maps = getattr(model.visual, layer)(feature_maps)
    images = [
        slow_logits(*slow_image_features(model.visual, each), [False] * 49, 40.0, texts)
        for each in feature_maps
    ]
    captions = []
    for caption in CAPTIONS:
        ids = tokenizer([caption])[0]
        features = slow_text_tower(model, model.token_embedding(ids))
        features = [x / x.norm() for x in features]
        padding = [int(i) == 0 for i in ids]
        captions.append(slow_logits(features[int(ids.argmax())], features, padding, 50.0, texts))
    tables = [branches(items) for items in (images, captions)]
    loss = slow_ranking_loss(tables[1]["global"]) + slow_ranking_loss(tables[1]["local"])
    first, second = torch.autograd.grad(loss, learned)
    return Expected(*tables, loss.detach(), (first, second))


def branches(items: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    global_ = torch.stack([item[0] for item in items])
    local = torch.stack([item[1] for item in items])
    return {"global": global_, "local": local, "merged": 0.5 * global_ + 0.5 * local}


def build(backbone: Backbone, contexts: tuple[Tensor, Tensor]) -> T2IPALHead:
    vocabulary = Vocabulary("three", CLASSES)
    head = build_head(
        METHOD.head,
        NAMES,
        tokens=class_tokens(backbone, vocabulary, form=METHOD.head.prompts.class_names),
        text_encoder=backbone.encode_prompts,
    )
    with torch.no_grad():
        head.prompts.global_context.copy_(contexts[0])
        head.prompts.local_context.copy_(contexts[1])
    return head


@pytest.fixture(scope="module")
def found(backbone: Backbone, pixels: Tensor, contexts: tuple[Tensor, Tensor]) -> Found:
    head = build(backbone, contexts)
    assert METHOD.train is not None
    with torch.no_grad():
        image, caption = backbone.encode_image(pixels), backbone.encode_text(CAPTIONS)
    targets = torch.tensor(LABELS, dtype=torch.int8)
    unit = partial(F.normalize, dim=-1)
    items = ItemSet(unit(caption.global_), unit(caption.local), caption.mask, targets, "caption")
    classes = head.class_embeddings()
    of_images = head.scores(unit(image.global_), unit(image.local), classes=classes)
    of_captions = head.scores(items.global_, items.local, items.mask, "caption", classes)
    loss_of = loss_function(METHOD.train.loss)
    loss = loss_of(of_captions.global_, targets) + loss_of(of_captions.local, targets)
    contexts_of_head = [head.prompts.global_context, head.prompts.local_context]
    gradients = torch.autograd.grad(loss, contexts_of_head)
    return Found(backbone, of_images, of_captions, loss.detach(), gradients, items)


def relative_error(value: Tensor, truth: Tensor) -> float:
    return float((value - truth).norm() / truth.norm())


@pytest.mark.parametrize("kind", ["images", "captions"])
def test_logits_agree(kind: str, expected: Expected, found: Found) -> None:
    truth: dict[str, Tensor] = getattr(expected, kind)
    scores: Scores = getattr(found, kind)
    for name, value in (
        ("global", scores.global_),
        ("local", scores.local),
        ("merged", scores.fused),
    ):
        torch.testing.assert_close(value, truth[name], rtol=1e-4, atol=1e-6, msg=name)


def test_loss_and_its_gradient_to_both_contexts_agree(expected: Expected, found: Found) -> None:
    assert relative_error(found.loss, expected.loss) < 1e-4
    for value, truth in zip(found.gradients, expected.gradients, strict=True):
        assert float(truth.norm()) > 0
        assert relative_error(value, truth) < 1e-4


def test_a_training_step_is_plain_descent_along_that_gradient(
    expected: Expected, found: Found, contexts: tuple[Tensor, Tensor]
) -> None:
    """The whole loop: the batch, both branches, SGD with its weight decay."""
    assert METHOD.train is not None
    head, rate = build(found.backbone, contexts), 1.0
    config = replace(METHOD.train, epochs=1, warmup=0.0, lr_prompts=rate, select="last")
    result = fit(head, [found.captions_set], found.captions_set, config)
    assert result.history[1].loss == pytest.approx(float(expected.loss), rel=1e-4)
    learned = (head.prompts.global_context, head.prompts.local_context)
    for value, start, gradient in zip(learned, contexts, expected.gradients, strict=True):
        step = start - rate * (gradient + 5e-4 * start)
        assert relative_error(value.detach() - start, step - start) < 1e-4


def test_what_tai_dpt_does_otherwise_would_show(found: Found, pixels: Tensor) -> None:
    """CLIP's own pooling and readable names are far enough away for the tests above to fail."""
    visual = found.backbone.model.visual
    ours = F.normalize(found.backbone.encode_image(pixels[:1]).global_, dim=-1)
    clip = F.normalize(visual(pixels[:1]), dim=-1)
    assert relative_error(ours, clip) > 0.1
    vocabulary = Vocabulary("three", CLASSES)
    readable = class_tokens(found.backbone, vocabulary).names
    keys = class_tokens(found.backbone, vocabulary, form="key").names
    assert [len(name) for name in readable] != [len(name) for name in keys]
