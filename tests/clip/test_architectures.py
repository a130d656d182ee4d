"""The vision towers that open_clip publishes weights for, at random weights: global and local."""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower

from t2ipal.clip.dense import image_encoder
from tiny_clip import randomise_norms

GRIDS = {
    "RN101": 7,
    "ViT-B-32-SigLIP2-256": 8,
    "convnext_base_w": 8,
    "MobileCLIP-S1": 8,
    "MobileCLIP2-S0": 8,
}


@pytest.mark.parametrize("name", GRIDS)
@torch.no_grad()
def test_global_is_open_clips_and_local_lies_on_the_grid_in_the_same_space(name: str) -> None:
    config = open_clip.get_model_config(name)
    torch.manual_seed(0)
    shape = CLIPVisionCfg(**config["vision_cfg"] | {"timm_model_pretrained": False})
    visual = _build_vision_tower(config["embed_dim"], shape, config.get("quick_gelu", False)).eval()
    randomise_norms(visual)
    size = visual.image_size
    side = size if isinstance(size, int) else size[0]
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    features = image_encoder(visual)(pixels)
    scale = features.global_.abs().max()
    torch.testing.assert_close(
        features.global_ / scale, visual(pixels) / scale, atol=1e-5, rtol=1e-4
    )
    side = GRIDS[name]
    assert features.grid == (side, side)
    assert features.local.shape == (2, side * side, config["embed_dim"])
    assert features.local.isfinite().all()
    # positions differ from each other, and the two images do not see each other
    assert features.local[0].std(dim=0).mean() > 0
    alone = image_encoder(visual)(pixels[1:])
    scale = features.local.abs().max()
    torch.testing.assert_close(
        alone.local[0] / scale, features.local[1] / scale, atol=1e-4, rtol=1e-3
    )
