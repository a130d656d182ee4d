"""oneDNN's operators compute what the layers of PyTorch compute, and leave the rest to these."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from t2ipal.clip import onednn


@pytest.fixture(autouse=True)
def _on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "_FASTER_THAN_MKL", True)


ACTIVATIONS = [nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.GELU(), nn.GELU("tanh")]


def noise(*shape: int) -> Tensor:
    return 4 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations(activation: nn.Module) -> None:
    layers = [
        (nn.Linear(24, 16), noise(2, 5, 24)),
        (nn.Linear(24, 16, bias=False), noise(3, 24)),
        (nn.Conv2d(8, 12, 3, stride=2, padding=1), noise(2, 8, 9, 9)),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), noise(2, 8, 9, 9)),
    ]
    for layer, x in layers:
        expected = activation(layer(x))
        assert onednn.fuse(layer, activation)
        for same in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            torch.testing.assert_close(same(x), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_sum_comes_before_the_activation() -> None:
    layer, x, added = nn.Conv2d(8, 12, 1), noise(2, 8, 5, 5), noise(2, 12, 5, 5)
    expected, kept = torch.relu(layer(x) + added), added.clone()
    assert onednn.fuse(layer, nn.ReLU())
    torch.testing.assert_close(layer(x, added), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(added, kept)


@torch.no_grad()
def test_attention() -> None:
    layer, x = nn.MultiheadAttention(32, 4, batch_first=True), noise(2, 6, 32)
    nn.init.normal_(layer.in_proj_bias)
    mask = causal(6)
    expected = [layer(x, x, x, need_weights=False, attn_mask=each)[0] for each in (None, mask)]
    assert onednn.fuse(layer)
    for each, known in zip((None, mask), expected, strict=True):
        found = layer(x, x, x, need_weights=False, attn_mask=each)[0]
        torch.testing.assert_close(found, known, atol=1e-5, rtol=1e-5)


def causal(length: int) -> Tensor:
    return torch.full((length, length), float("-inf")).triu(1)


def test_attention_of_a_frozen_layer_gives_the_gradient_of_pytorchs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = nn.MultiheadAttention(32, 4, batch_first=True).requires_grad_(False)
    nn.init.normal_(plain.in_proj_bias)
    nn.init.normal_(plain.out_proj.bias)
    ours = copy.deepcopy(plain)
    assert onednn.fuse(ours)
    assert list(ours.state_dict()) == list(plain.state_dict())
    direction = noise(3, 6, 32)

    def run(layer: nn.Module, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        x = (noise(3, 6, 32) / 4).requires_grad_()
        result = layer(x, x, x, need_weights=False, attn_mask=mask)[0]
        return result, torch.autograd.grad((result * direction).sum(), x)[0]

    expected = [run(plain, mask) for mask in (None, causal(6), causal(6) < 0)]
    for mask, known in zip((None, causal(6), causal(6) < 0), expected, strict=True):
        for same in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            torch.testing.assert_close(run(same, mask), known, atol=1e-5, rtol=1e-5)
    # Not by way of PyTorch's own, which would give the same:
    monkeypatch.delattr(nn.MultiheadAttention, "forward")
    run(ours, causal(6))


def test_attention_that_is_not_known_is_pytorchs() -> None:
    plain = nn.MultiheadAttention(32, 4, batch_first=True)
    ours, x = copy.deepcopy(plain), noise(2, 6, 32)
    assert onednn.fuse(ours)
    hidden = torch.arange(6).expand(2, -1) > 3
    ways: list[dict[str, Any]] = [
        {"need_weights": False, "key_padding_mask": hidden},
        {"need_weights": False, "attn_mask": causal(6).expand(8, -1, -1)},
    ]
    for options in ways:
        assert torch.equal(ours(x, x, x, **options)[0], plain(x, x, x, **options)[0])
    mask = causal(6)
    expected = plain.double()(*[x.double()] * 3, need_weights=False, attn_mask=mask.double())[0]
    found = ours.double()(*[x.double()] * 3, need_weights=False, attn_mask=mask.double())[0]
    assert torch.equal(found, expected)
    plain, ours = plain.float(), ours.float()
    for layer in (plain, ours):  # weights that are trained
        layer(x, x, x, need_weights=False, attn_mask=mask)[0].square().sum().backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-3, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x, x, x, need_weights=False, attn_mask=mask)[0].dtype == torch.bfloat16


def test_elsewhere_layers_are_those_of_pytorch() -> None:
    layer, x = nn.Linear(24, 16), noise(5, 24).requires_grad_()
    expected = torch.relu(layer(x))
    assert onednn.fuse(layer, nn.ReLU())
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert x.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert layer.double()(x.double()).dtype == torch.float64
        traced = torch.export.export(layer.float(), (x.detach(),)).graph
    assert not any("mkldnn" in str(node.target) for node in traced.nodes)


def test_what_is_not_known_stays_as_it_is() -> None:
    class Other(nn.Linear):
        pass

    other, layer = Other(3, 4), nn.Linear(3, 4)
    assert not onednn.fuse(other) and not onednn.fuse(layer, nn.Tanh())
    assert type(other) is Other and type(layer) is nn.Linear
