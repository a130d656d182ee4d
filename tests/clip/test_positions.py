"""Other input sizes: interpolated positions equal open_clip's where open_clip has them."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.dense import image_encoder
from t2ipal.clip.positions import _interpolate_positions, resize_tower
from t2ipal.errors import UserError


@torch.no_grad()
def test_vit_equals_open_clips_own_interpolation(tiny_vit_folder: Path) -> None:
    backbone = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), image_size=96))
    oracle = open_clip.create_model(f"local-dir:{tiny_vit_folder}", force_image_size=96).eval()
    pixels = torch.randn(2, 3, 96, 96)
    features = backbone.encode_image(pixels)
    torch.testing.assert_close(features.global_, oracle.encode_image(pixels))
    assert features.grid == (12, 12) and features.local.shape[1] == 144
    assert backbone.image_size == 96


@torch.no_grad()
def test_resnet_positions_are_interpolated(tiny_resnet_folder: Path) -> None:
    small = Backbone.load(str(tiny_resnet_folder))
    large = Backbone.load(ClipSettings(clip=str(tiny_resnet_folder), image_size=128))
    positions = large.model.visual.attnpool.positional_embedding
    assert positions.shape[0] == 1 + 4 * 4
    old = small.model.visual.attnpool.positional_embedding
    torch.testing.assert_close(positions[0], old[0])  # the mean's position stays
    features = large.encode_image(torch.randn(2, 3, 128, 128))
    assert features.grid == (4, 4) and features.local.shape[:2] == (2, 16)
    # the weights are the same, the preprocessing is not
    assert large.digest == small.digest
    assert large.preprocess_digest != small.preprocess_digest
    assert large.image_space != small.image_space and large.text_space == small.text_space


def test_interpolation_keeps_rows_and_columns_apart() -> None:
    rows = torch.arange(4.0).repeat_interleave(4)
    columns = torch.arange(4.0).repeat(4)
    positions = torch.cat([torch.tensor([[9.0, -9.0]]), torch.stack([rows, columns], dim=1)])
    larger = _interpolate_positions(positions, 8)
    grid = larger[1:].reshape(8, 8, 2)
    assert larger[0].tolist() == [9.0, -9.0]
    torch.testing.assert_close(grid[:, :, 0], grid[:, :1, 0].expand(8, 8))  # constant along a row
    torch.testing.assert_close(grid[:, :, 1], grid[:1, :, 1].expand(8, 8))
    torch.testing.assert_close(grid[2:6, 0, 0].diff(), torch.full((3,), 0.5), atol=0.1, rtol=0)
    assert _interpolate_positions(positions, 4) is positions


@torch.no_grad()
def test_timm_vit() -> None:
    visual = open_clip.timm_model.TimmModel("test_vit", embed_dim=8, image_size=160).eval()
    resize_tower(visual, 96)
    features = image_encoder(visual)(torch.randn(1, 3, 96, 96))
    assert features.grid == (6, 6)


@pytest.mark.parametrize(
    ("kind", "size", "says"),
    [("vit", 100, "stride of 8 pixels; use 96 or 104"), ("resnet", 100, "use 96 or 128")],
)
def test_sizes_that_do_not_fit_are_refused(
    kind: str, size: int, says: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}_folder")
    with pytest.raises(UserError, match=says):
        Backbone.load(ClipSettings(clip=str(folder), image_size=size))
