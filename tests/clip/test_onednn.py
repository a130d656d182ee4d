"""oneDNN's operators compute what the layers of PyTorch compute, and leave the rest to these."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from t2ipal.clip import onednn

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
    mask = torch.full((6, 6), float("-inf")).triu(1)
    expected = [layer(x, x, x, need_weights=False, attn_mask=each)[0] for each in (None, mask)]
    assert onednn.fuse(layer)
    for each, known in zip((None, mask), expected, strict=True):
        found = layer(x, x, x, need_weights=False, attn_mask=each)[0]
        torch.testing.assert_close(found, known, atol=1e-5, rtol=1e-5)


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
