"""The layers of BatchInvariant: the same numbers as PyTorch's, and no say for layout or company."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from t2ipal.synthesis.exact import BatchInvariant


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
        with BatchInvariant():
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
        with BatchInvariant():
            found = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_row_of_a_small_product_ignores_the_other_rows() -> None:
    layer = nn.Linear(192, 768)
    x = torch.randn(7, 192)
    with torch.no_grad(), BatchInvariant():
        together = layer(x)
        alone = torch.cat([layer(row) for row in x.split(1)])
    assert torch.equal(together, alone)


def test_other_number_formats_and_functions_pass_through() -> None:
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    weight = torch.randn(4, 8, 3, 3, dtype=torch.float64)
    image, weight32 = x[0].float(), weight.float()
    with BatchInvariant():
        assert torch.equal(F.conv2d(x, weight, padding=1), torch.conv2d(x, weight, None, 1, 1))
        assert F.conv2d(image, weight32).shape == (4, 3, 3)  # an image without batch dimension
        assert torch.equal(F.relu(x), x.clamp(min=0))
