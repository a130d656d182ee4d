"""Local features against their formula written out by hand; global ones against open_clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.dense import image_encoder
from t2ipal.errors import UserError
from tiny_clip import randomise_norms

D = 32


def pixels_for(size: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def native(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    shape = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 8}
    visual = _build_vision_tower(D, CLIPVisionCfg(**shape | options)).eval()
    randomise_norms(visual)
    return visual


def timm_tower(name: str, size: int, pool: str = "", proj: str = "linear") -> TimmModel:
    torch.manual_seed(0)
    visual = TimmModel(name, embed_dim=D, image_size=size, pool=pool, proj=proj).eval()
    randomise_norms(visual)
    return visual


@torch.no_grad()
def test_rn50_global_and_local(rn50: Backbone) -> None:
    pixels = pixels_for(224)
    features = rn50.encode_image(pixels)
    torch.testing.assert_close(features.global_, rn50.model.encode_image(pixels), atol=1e-5, rtol=0)

    visual = rn50.model.visual
    x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
    assert features.grid == (7, 7) and features.local.shape == (2, 49, 1024)
    for i, row, column in [(0, 0, 0), (0, 2, 5), (1, 6, 6)]:
        value = visual.attnpool.v_proj.weight @ x[i, :, row, column] + visual.attnpool.v_proj.bias
        by_hand = visual.attnpool.c_proj.weight @ value + visual.attnpool.c_proj.bias
        torch.testing.assert_close(
            features.local[i, row * 7 + column], by_hand, atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_vit_b_32_global_and_local(vit_b_32: Backbone) -> None:
    pixels = pixels_for(224)
    features = vit_b_32.encode_image(pixels)
    torch.testing.assert_close(
        features.global_, vit_b_32.model.encode_image(pixels), atol=1e-5, rtol=0
    )

    visual = vit_b_32.model.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(2, 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    block = visual.transformer.resblocks[-1]
    x = block.ln_1(x[:, 1:])
    x = x @ block.attn.in_proj_weight[1536:].T + block.attn.in_proj_bias[1536:]
    x = x @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    by_hand = visual.ln_post(x) @ visual.proj
    assert features.grid == (7, 7) and features.local.shape == (2, 49, 512)
    torch.testing.assert_close(features.local, by_hand, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ls_init_value": 0.3},
        {"final_ln_after_pool": True},
        {"qk_norm": True, "scale_attn": True},
    ],
    ids=["plain", "layer-scale", "norm-after-pool", "custom-block"],
)
def test_positions_of_a_vit_attend_to_themselves(options: dict[str, Any]) -> None:
    visual = native(**options)
    pixels = pixels_for(32)
    features = image_encoder(visual)(pixels)
    torch.testing.assert_close(features.global_, visual(pixels), atol=1e-6, rtol=1e-5)

    block = visual.transformer.resblocks[-1]
    x = visual.forward_intermediates(pixels, indices=[1])["image_intermediates"][0]
    x = x.flatten(2).transpose(1, 2)
    only_itself = torch.full((16, 16), float("-inf")).fill_diagonal_(0)
    # the block is x + branch(x) + mlp: silence the MLP and subtract the residual
    block.mlp[-1].weight.zero_()
    block.mlp[-1].bias.zero_()
    branch = block(x, attn_mask=only_itself) - x
    by_hand = visual.ln_post(branch) @ visual.proj
    torch.testing.assert_close(features.local, by_hand, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_place_in_the_batch_changes_no_bit(vit_b_32: Backbone) -> None:
    pixels = pixels_for(224).repeat(35, 1, 1, 1)  # two images, in turn
    first = vit_b_32.encode_image(pixels[:2]).global_
    for count in (2, 4, 33, 70):
        features = vit_b_32.encode_image(pixels[:count])
        for each in (features.global_, features.local):
            assert torch.equal(each[0::2], each[:1].expand_as(each[0::2]))
            assert torch.equal(each[1::2], each[1:2].expand_as(each[1::2]))
        assert torch.equal(features.global_[:2], first)


@torch.no_grad()
def test_pooling_without_positions_is_pooling_with_zero_positions(tiny_resnet: Backbone) -> None:
    visual = tiny_resnet.model.visual
    pixels = pixels_for(64, batch=3)
    with_positions = image_encoder(visual)(pixels)
    without = image_encoder(visual, pool_positions=False)(pixels)
    positions = visual.attnpool.positional_embedding.clone()
    try:
        visual.attnpool.positional_embedding.zero_()
        oracle = visual(pixels)
    finally:
        visual.attnpool.positional_embedding.copy_(positions)
    torch.testing.assert_close(without.global_, oracle, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(without.global_, with_positions.global_, atol=1e-3)
    torch.testing.assert_close(without.local, with_positions.local)


@torch.no_grad()
@pytest.mark.parametrize("norm_after_pool", [False, True])
def test_averaging_vit_pools_each_position_alone(norm_after_pool: bool) -> None:
    visual = native(pool_type="avg", final_ln_after_pool=norm_after_pool)
    pixels = pixels_for(32)
    features = image_encoder(visual)(pixels)
    torch.testing.assert_close(features.global_, visual(pixels))
    if not norm_after_pool:  # norm and projection first: the mean of the positions is the whole
        torch.testing.assert_close(features.local.mean(dim=1), features.global_)
    x = visual.forward_intermediates(pixels, indices=[2])["image_intermediates"][0]  # [B, W, 4, 4]
    alone = visual.ln_post(x[1, :, 2, 3]) @ visual.proj
    torch.testing.assert_close(features.local[1, 2 * 4 + 3], alone)


@torch.no_grad()
def test_timm_vit_with_class_token() -> None:
    visual = timm_tower("test_vit", 160)
    pixels = pixels_for(160)
    features = image_encoder(visual)(pixels)
    torch.testing.assert_close(features.global_, visual(pixels))

    trunk = visual.trunk
    x = trunk.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([trunk.cls_token.expand(2, -1, -1), x], dim=1) + trunk.pos_embed
    x = trunk.norm_pre(x)
    for block in trunk.blocks[:-1]:
        x = block(x)
    attention = trunk.blocks[-1].attn
    width = x.shape[-1]
    x = trunk.blocks[-1].norm1(x[:, 1:])
    x = F.linear(x, attention.qkv.weight[2 * width :], attention.qkv.bias[2 * width :])
    by_hand = visual.head(trunk.norm(trunk.blocks[-1].ls1(attention.proj(x))))
    assert features.grid == (10, 10)
    torch.testing.assert_close(features.local, by_hand, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size", "pool", "proj"),
    [
        ("test_vit3", 160, "map", "linear"),  # attention pooling, as SigLIP
        ("test_vit2", 160, "", "linear"),  # average of tokens
        ("test_convnext", 160, "", "linear"),  # average of a feature map, as ConvNeXt CLIP
    ],
)
def test_timm_tower_of_one_position_is_its_own_global(
    name: str, size: int, pool: str, proj: str
) -> None:
    """With every position but one taken away, the pooled feature is that position's local one."""
    visual = timm_tower(name, size, pool, proj)
    pixels = pixels_for(size)
    features = image_encoder(visual)(pixels)
    torch.testing.assert_close(features.global_, visual(pixels))
    height, width = features.grid
    assert features.local.shape == (2, height * width, D)

    trunk = visual.trunk
    x = trunk.forward_features(pixels)
    row, column = height - 1, 1
    position = row * width + column
    if x.ndim == 3:
        alone = x[:, trunk.num_prefix_tokens :][:, position : position + 1]
        trunk.num_prefix_tokens = 0
    else:
        alone = x[:, :, row : row + 1, column : column + 1]
    pooled = visual.head(trunk.forward_head(alone))
    torch.testing.assert_close(features.local[:, position], pooled, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("pool", ["abs_attn", "rot_attn"])
def test_timm_cnn_with_clips_attention_pool(pool: str) -> None:
    visual = timm_tower("resnet10t", 64, pool, "")
    pixels = pixels_for(64)
    features = image_encoder(visual)(pixels)
    torch.testing.assert_close(features.global_, visual(pixels))
    x = visual.trunk.forward_features(pixels)[1, :, 1, 0]
    attention = visual.head.pool
    value = (attention.qkv.weight @ x + attention.qkv.bias)[2 * len(x) :]
    torch.testing.assert_close(features.local[1, 2], attention.proj(value), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: native(attentional_pool=True), "VisionTransformer"),
        (lambda: native(layers=1), "at least two"),
        (lambda: timm_tower("test_vit_relpos", 160), "VisionTransformerRelPos"),
        (lambda: nn.Linear(2, 2), "Linear"),
    ],
    ids=["coca", "one-block", "relative-positions", "unknown"],
)
def test_towers_without_dense_features_are_refused(build: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        image_encoder(build())


def test_pooling_without_positions_is_refused_where_there_is_no_such_pool() -> None:
    with pytest.raises(UserError, match="pool_positions"):
        image_encoder(native(), pool_positions=False)
