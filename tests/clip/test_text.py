"""Text encoding: equal to open_clip's, exact when cut, differentiable from the embeddings."""

from __future__ import annotations

import copy
from typing import Any

import open_clip
import pytest
import torch
from torch import nn

from t2ipal.clip import onednn
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.text import TextTower
from t2ipal.errors import UserError
from tiny_clip import randomise_norms, tiny_config

TEXTS = [
    "a photo of a dog.",
    "a person riding a bicycle down a street full of parked cars and buses",
    "sheep",
]


@pytest.mark.parametrize("name", ["rn50", "vit_b_32", "tiny_vit"])
@torch.no_grad()
def test_encode_text_equals_open_clip(name: str, request: pytest.FixtureRequest) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    features = backbone.encode_text(TEXTS)
    tokens = backbone.tokenize(TEXTS)
    torch.testing.assert_close(
        features.global_, backbone.model.encode_text(tokens), atol=1e-5, rtol=0
    )

    lengths = (tokens != 0).sum(dim=1)  # SOS, words, EOS; padding is 0 in these vocabularies
    assert features.local.shape[:2] == (3, int(lengths.max()))
    assert features.mask.sum(dim=1).tolist() == lengths.tolist()
    last = features.local[torch.arange(3), lengths - 1]
    torch.testing.assert_close(features.global_, last, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["vit_b_32", "tiny_resnet"])
@torch.no_grad()
def test_cut_equals_uncut(name: str, request: pytest.FixtureRequest) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    tokens = backbone.tokenize(TEXTS)
    eos = backbone.eos_positions(tokens)
    longest = int(eos.max()) + 1
    embeddings = backbone.embed_tokens(tokens)
    uncut = backbone.encode_text_embeddings(embeddings, eos)
    cut = backbone.encode_text_embeddings(embeddings[:, :longest], eos)
    assert cut.local.shape[1] == longest < uncut.local.shape[1] == backbone.context_length
    torch.testing.assert_close(cut.global_, uncut.global_, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cut.local, uncut.local[:, :longest], atol=1e-5, rtol=1e-5)
    # what stands behind the end changes nothing
    embeddings[0, eos[0] + 1 :] = 5.0
    other = backbone.encode_text_embeddings(embeddings[:, :longest], eos)
    torch.testing.assert_close(other.global_, cut.global_, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "classes"), [("tiny_vit", 5), ("tiny_vit", 75), ("rn50", 3)])
def test_prompts_with_a_shared_start_equal_prompts_one_by_one(
    name: str, classes: int, request: pytest.FixtureRequest
) -> None:
    """Features and the gradient to the shared context, for prompts of several lengths."""
    backbone: Backbone = request.getfixturevalue(name)
    made = torch.Generator().manual_seed(0)
    ends = torch.randint(1, 5, (classes,), generator=made) + 6
    rest = torch.randn(classes, 5, backbone.text_width, generator=made)
    direction = torch.randn(2, classes, backbone.width, generator=made)
    context = torch.randn(2, 1, 6, backbone.text_width, generator=made)

    def encode(shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        start = context.clone().requires_grad_()
        prompts = torch.cat([start.expand(-1, classes, -1, -1), rest.expand(2, -1, -1, -1)], dim=2)
        features = backbone.encode_prompts(prompts, ends, shared)
        (features * direction).sum().backward()
        assert start.grad is not None
        return features.detach(), start.grad

    (packed, packed_grad), (plain, plain_grad) = encode(6), encode(0)
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=1e-5)
    error = (packed_grad - plain_grad).norm() / plain_grad.norm()
    assert error < 1e-5
    assert packed.shape == (2, classes, backbone.width)


def test_gradient_reaches_the_embeddings_and_nothing_else(tiny_vit: Backbone) -> None:
    tokens = tiny_vit.tokenize(["a dog", "two cats."])
    eos = tiny_vit.eos_positions(tokens)
    embeddings = tiny_vit.embed_tokens(tokens[:, :12]).requires_grad_()
    direction = torch.randn(2, tiny_vit.width, generator=torch.Generator().manual_seed(0))
    (tiny_vit.encode_text_embeddings(embeddings, eos).global_ * direction).sum().backward()
    assert embeddings.grad is not None
    assert all(parameter.grad is None for parameter in tiny_vit.model.parameters())
    for i in range(2):  # up to the end of the text, and not behind it: attention is causal
        lengths = embeddings.grad[i].norm(dim=-1)
        assert bool((lengths[: eos[i] + 1] > 0).all()) and not lengths[eos[i] + 1 :].any()
    # against a finite difference along the gradient
    with torch.no_grad():
        step = 1e-3 * embeddings.grad / embeddings.grad.norm()
        after, before = (
            (tiny_vit.encode_text_embeddings(embeddings + sign * step, eos).global_ * direction)
            for sign in (1, -1)
        )
    slope = (after - before).sum() / (2 * step.norm())
    torch.testing.assert_close(slope, embeddings.grad.norm(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", ["rn50", "tiny_vit"])
def test_layers_of_a_backbone_compute_what_those_of_open_clip_do(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Features of prompts behind a shared start and their gradient; weights keep their keys."""
    backbone: Backbone = request.getfixturevalue(name)
    plain = copy.deepcopy(backbone._text)
    for block in plain.transformer.resblocks:
        assert type(block.attn) is onednn.SelfAttention
        block.attn.__class__ = nn.MultiheadAttention
    assert list(plain.transformer.state_dict()) == list(backbone._text.transformer.state_dict())
    made = torch.Generator().manual_seed(0)
    prompts = torch.randn(2, 7, 9, backbone.text_width, generator=made) / 10
    prompts[:, :, :6] = prompts[:, :1, :6]
    eos, direction = torch.full((7,), 8), torch.randn(2, 7, backbone.width, generator=made)

    def run(tower: TextTower) -> tuple[torch.Tensor, torch.Tensor]:
        x = prompts.clone().requires_grad_()
        features = nn.functional.normalize(tower.encode_prompts(x, eos, 6, 0), dim=-1)
        (features * direction).sum().backward()
        assert x.grad is not None
        return features, x.grad / x.grad.norm()

    torch.testing.assert_close(run(backbone._text), run(plain), atol=1e-6, rtol=0)


VARIANTS: dict[str, dict[str, Any]] = {
    "linear-projection": {"proj_bias": True},
    "eos-pooling": {"pool_type": "eos", "eos_id": 7},
    "siglip": {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    "bidirectional": {"no_causal_mask": True},
    "first": {"pool_type": "first"},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("custom", [False, True], ids=["CLIP", "CustomTextCLIP"])
@torch.no_grad()
def test_every_kind_of_text_tower(variant: str, custom: bool) -> None:
    torch.manual_seed(0)
    build = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    config = tiny_config("vit", context_length=12, vocab_size=10, **VARIANTS[variant])
    model = build(**config).eval()
    randomise_norms(model)
    tower = TextTower(model)
    # end of text is 9 (7 where the configuration says so), padding 0
    end = 7 if variant == "eos-pooling" else 9
    tokens = torch.tensor(
        [[8, 1, 2, end] + [0] * 8, [8, 3, 1, 4, 5, end] + [0] * 6, [8, end] + [0] * 10]
    )
    eos = tower.eos_positions(tokens, pad_id=0)
    assert eos.tolist() == [3, 5, 1]
    cut = tower.encode(tower.embed(tokens[:, :6]), eos, pad_id=0)
    torch.testing.assert_close(cut.global_, model.encode_text(tokens), atol=1e-6, rtol=1e-5)
    uncut = tower.encode(tower.embed(tokens), eos, pad_id=0)
    torch.testing.assert_close(cut.local, uncut.local[:, :6], atol=1e-6, rtol=1e-5)
    assert cut.mask.sum(dim=1).tolist() == [4, 6, 2]


def test_embeddings_of_the_wrong_size_are_refused(tiny_vit: Backbone) -> None:
    eos = torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match="77 positions"):
        tiny_vit.encode_text_embeddings(torch.zeros(1, 78, tiny_vit.text_width), eos)
    with pytest.raises(ValueError, match="width 48"):
        tiny_vit.encode_text_embeddings(torch.zeros(1, 5, 47), eos)


def test_text_towers_with_an_extra_token_are_refused() -> None:
    from open_clip.transformer import TextTransformer

    model = open_clip.CustomTextCLIP(**tiny_config())
    model.text = TextTransformer(embed_cls=True, width=32, heads=2, layers=1)
    with pytest.raises(UserError, match="text tower"):
        TextTower(model)
