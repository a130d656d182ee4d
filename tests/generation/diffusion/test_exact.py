"""The layers of BatchInvariant: the same numbers as PyTorch's, and no say for layout or company."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from t2ipal.generation.diffusion.exact import BatchInvariant


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, 3, padding=1),
        nn.Conv2d(8, 12, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 4, 3, stride=2, padding=(2, 1), dilation=2, bias=False),
        nn.Conv2d(8, 4, 3, padding="same"),
        nn.GroupNorm(4, 8),
    ],
    ids=str,
)
def test_image_layers_agree_with_torch_and_ignore_the_layout(layer: nn.Module) -> None:
    x = torch.randn(1, 8, 9, 9)
    # as attention leaves it: channels-last, with a first stride that no batch would have
    other_layout = torch.empty_strided((1, 8, 9, 9), (8, 1, 72, 8)).copy_(x)
    with torch.no_grad():
        expected = layer(x)
        with BatchInvariant([layer]):
            found, found_elsewhere = layer(x), layer(other_layout)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if not isinstance(getattr(layer, "padding", 0), str):
        assert torch.equal(found, found_elsewhere)


@pytest.mark.parametrize("shape", [(1, 24), (3, 24), (2, 5, 24), (40, 24), (2, 3, 2, 24)])
def test_linear_agrees_with_torch(shape: tuple[int, ...]) -> None:
    layer = nn.Linear(24, 10)
    x = torch.randn(shape)
    with torch.no_grad():
        expected = layer(x)
        with BatchInvariant([layer]):
            found = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_row_of_a_small_product_ignores_the_other_rows() -> None:
    layer = nn.Linear(192, 768)
    x = torch.randn(7, 192)
    with torch.no_grad(), BatchInvariant([layer]):
        together = layer(x)
        alone = torch.cat([layer(row) for row in x.split(1)])
    assert torch.equal(together, alone)


def test_other_number_formats_and_layers_are_left_alone() -> None:
    layer = nn.Conv2d(8, 4, 3, padding=1)
    image, double = torch.randn(8, 5, 5), copy.deepcopy(layer).double()
    others = [
        nn.Conv2d(8, 4, 3, padding="same"),
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(8, 4, 3),
    ]
    with torch.no_grad():
        expected = [layer(image), double(image[None].double()), *(o(image[None]) for o in others)]
        with BatchInvariant([layer, double, *others]):
            found = [layer(image), double(image[None].double()), *(o(image[None]) for o in others)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_layers_are_as_before_afterwards_even_shared_and_wrapped_ones() -> None:
    shared = nn.Linear(4, 4)
    wrapped = nn.Linear(4, 4)
    own = wrapped.forward = lambda input: input + 1  # type: ignore[method-assign]
    network = nn.Sequential(shared, shared, wrapped)
    x = torch.ones(1, 4)
    expected = network(x)
    invariant = BatchInvariant([network, shared])
    for _ in range(2):
        with pytest.raises(KeyError), invariant:
            assert "forward" in vars(shared) and vars(wrapped)["forward"] is not own
            raise KeyError
        assert "forward" not in vars(shared) and vars(wrapped)["forward"] is own
    assert torch.equal(network(x), expected)
