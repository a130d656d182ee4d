"""Global and local image features of a CLIP vision tower, architecture by architecture.

CLIP compares one vector per image with the text. The class-wise heatmap needs the same comparison
for every position, so each position is sent through what the tower would do to it if it pooled that
position alone:

* ``ModifiedResNet``: the attention pool looking at one position only is ``c_proj(v_proj(x_j))``
  (TaI-DPT, Guo et al., CVPR 2023), here without positional embedding.
* ``VisionTransformer`` with a class token: the value path of the last block (MaskCLIP, Zhou et al.,
  ECCV 2022): attention in which a position sees itself only, without residual and MLP, then the
  final norm and the projection.
* Towers that pool the positions themselves (average or attention pooling: CLIPA, SigLIP, ConvNeXt):
  each final position pooled alone.

The global feature is always the tower's own, equal to ``encode_image``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from t2ipal.clip.onednn import linear
from t2ipal.errors import UserError


@dataclass(frozen=True)
class ImageFeatures:
    """Features of a batch of images, not normalised.

    Attributes:
        global_: [B, D], what open_clip's ``encode_image`` gives.
        local: [B, P, D], positions row by row.
        grid: (h, w) with h * w = P.
    """

    global_: Tensor
    local: Tensor
    grid: tuple[int, int]


ImageEncoder = Callable[[Tensor], ImageFeatures]


def image_encoder(visual: nn.Module, *, pool_positions: bool = True) -> ImageEncoder:
    """The function pixels [B, 3, S, S] -> :class:`ImageFeatures` of an open_clip vision tower.

    Args:
        visual: ``model.visual`` of an open_clip model, in eval mode.
        pool_positions: whether a ``ModifiedResNet``'s attention pool adds its positional embedding
            to the global feature, as CLIP does. TaI-DPT pools without it: ``False``.

    Raises:
        UserError: the tower has no dense features that this project knows how to align with text,
            or ``pool_positions=False`` was asked of a tower without such a pool.
    """
    if isinstance(visual, ModifiedResNet):
        return partial(_modified_resnet, visual, pool_positions)
    if not pool_positions:
        raise UserError(
            "pooling without positions (pool_positions=False, as in tai-dpt-original) is for CLIP "
            f"ResNets (RN50, RN101, ...): this model's {_tower_name(visual)} has no attention pool "
            "with positions; leave it True, or use the method tai-dpt."
        )
    if isinstance(visual, VisionTransformer):
        return _vision_transformer_encoder(visual)
    if isinstance(visual, TimmModel):
        return _timm_encoder(visual)
    raise _no_dense_features(visual)


def _tower_name(visual: nn.Module) -> str:
    trunk = getattr(visual, "trunk", visual)
    return f"vision tower {type(trunk).__name__}"


def _no_dense_features(visual: nn.Module) -> UserError:
    return UserError(
        f"local features are not defined for this model's {_tower_name(visual)}; "
        "use a CLIP ResNet, a ViT (plain, SigLIP, EVA) or a convolutional tower."
    )


def _positions(feature_map: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """A feature map [B, C, h, w] as positions [B, h*w, C], row by row, with its grid."""
    height, width = feature_map.shape[-2:]
    return feature_map.flatten(2).transpose(1, 2), (height, width)


# --- open_clip's ResNets -------------------------------------------------------------------------


def _modified_resnet(visual: ModifiedResNet, with_positions: bool, pixels: Tensor) -> ImageFeatures:
    output = visual.forward_intermediates(pixels, indices=[4], intermediates_only=True)
    x, grid = _positions(output["image_intermediates"][0])  # layer4, [B, P, W]
    pool = visual.attnpool
    value = pool.v_proj(x)
    pooled = _attention_pool(pool, x, value, with_positions)
    return ImageFeatures(pooled, pool.c_proj(value), grid)


def _attention_pool(
    pool: AttentionPool2d, x: Tensor, value: Tensor, with_positions: bool
) -> Tensor:
    """CLIP's attention pool over positions [B, P, W] whose value is known, [B, D].

    The mean position asks, the mean and all positions answer. open_clip's own lets all positions
    ask, and drops all answers but one. As the value is linear, what positional embedding adds to it
    is the same for all images.
    """
    batch, _, width = x.shape
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)  # [B, 1 + P, W]
    value = torch.cat([value.mean(dim=1, keepdim=True), value], dim=1)
    if with_positions:
        positions = pool.positional_embedding  # [1 + P, W]
        x = x + positions.to(x.dtype)
        value = value + linear(positions, pool.v_proj.weight, None)
    heads = partial(_heads, pool.num_heads)
    attended = F.scaled_dot_product_attention(
        heads(pool.q_proj(x[:, :1])), heads(pool.k_proj(x)), heads(value)
    )
    result: Tensor = pool.c_proj(attended.transpose(1, 2).reshape(batch, width))
    return result


def _heads(count: int, x: Tensor) -> Tensor:
    """[B, n, W] -> [B, heads, n, W / heads]"""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


# --- open_clip's vision transformers -------------------------------------------------------------


def _vision_transformer_encoder(visual: VisionTransformer) -> ImageEncoder:
    blocks = visual.transformer.resblocks
    if visual.attn_pool is not None or visual.pool_type == "none":
        raise _no_dense_features(visual)
    if visual.pool_type == "avg":
        return partial(_averaged_transformer, visual)
    if len(blocks) < 2:
        raise UserError(
            "local features need the input of the last block, and this model's vision transformer "
            "has one block only; use one with at least two."
        )
    return partial(_class_token_transformer, visual)


def _class_token_transformer(visual: VisionTransformer, pixels: Tensor) -> ImageFeatures:
    block = visual.transformer.resblocks[-1]
    before = [len(visual.transformer.resblocks) - 2]
    if isinstance(block, ResidualAttentionBlock):
        output = visual.forward_intermediates(
            pixels, before, stop_early=True, intermediates_only=True, output_extra_tokens=True
        )
        x, grid = _positions(output["image_intermediates"][0])  # into the last block, [B, P, W]
        global_, value = _class_token(block, output["image_intermediates_prefix"][0], x)
        global_ = _row_by_row(lambda row: visual.ln_post(row) @ visual.proj, global_)
        local = block.ls_1(linear(value, block.attn.out_proj.weight, block.attn.out_proj.bias))
    else:
        output = visual.forward_intermediates(pixels, before)
        x, grid = _positions(output["image_intermediates"][0])
        global_ = output["image_features"]
        local = block.ls_1(block.ln_attn(_alone(block.attn, block.ln_1(x))))
    # what the block gives where each position attends to itself only, without residual and MLP
    return ImageFeatures(global_, visual.ln_post(local) @ visual.proj, grid)


def _class_token(block: ResidualAttentionBlock, token: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """A block's result for its class token, and the values of the positions.

    The block itself computes all positions, which nobody asks for in the last one.

    Args:
        token, x: into the block, [B, 1, W] and [B, P, W].

    Returns:
        [B, W] and [B, P, W].
    """
    attention, width = block.attn, x.shape[-1]
    # query, key and value projections lie stacked in one matrix [3W, W]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    normed = block.ln_1(torch.cat([token, x], dim=1))  # [B, 1 + P, W]
    query = _row_by_row(lambda row: linear(row, weight[:width], bias[:width]), normed[:, 0])
    key, value = linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
    heads = partial(_heads, attention.num_heads)
    queries = query[:, None].expand(-1, 8, -1)  # one alone would be no product of matrices
    attended = F.scaled_dot_product_attention(heads(queries), heads(key), heads(value))[:, :, 0]

    def rest(row: Tensor) -> Tensor:
        mixed, before = row.chunk(2, dim=-1)
        mixed = linear(mixed, attention.out_proj.weight, attention.out_proj.bias)
        after = before + block.ls_1(mixed)
        result: Tensor = after + block.ls_2(block.mlp(block.ln_2(after)))
        return result

    rows = torch.cat([attended.flatten(1), token[:, 0]], dim=-1)  # [B, 2W]
    return _row_by_row(rest, rows), value[:, 1:]


_ROWS = 64


def _row_by_row(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """``function`` of each of the rows [B, W], whose last bits do not depend on the other rows.

    A product of few rows is computed in another order than one of many, so they are always as many.
    """
    if torch.compiler.is_compiling():  # or exporting
        return function(rows)
    parts = [
        function(F.pad(part, (0, 0, 0, _ROWS - len(part))))[: len(part)]
        for part in torch.split(rows, _ROWS)
    ]
    return torch.cat(parts)


def _averaged_transformer(visual: VisionTransformer, pixels: Tensor) -> ImageFeatures:
    last = len(visual.transformer.resblocks) - 1
    output = visual.forward_intermediates(pixels, indices=[last])
    x, grid = _positions(output["image_intermediates"][0])
    return ImageFeatures(output["image_features"], visual.ln_post(x) @ visual.proj, grid)


def _alone(attention: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Attention over sequences of one position each: [B, P, W] -> [B, P, W']."""
    batch, positions, width = x.shape
    return attention(x.reshape(batch * positions, 1, width)).reshape(batch, positions, -1)


# --- timm's towers -------------------------------------------------------------------------------


def _timm_encoder(visual: TimmModel) -> ImageEncoder:
    from timm import layers  # slow to import, and most models have no part of timm
    from timm.models import eva, vision_transformer

    trunk = visual.trunk
    pool = getattr(visual.head, "pool", None)
    if isinstance(pool, (layers.AttentionPool2d, layers.RotAttentionPool2d)):
        return partial(_timm_attention_pool, visual)
    if isinstance(trunk, (vision_transformer.VisionTransformer, eva.Eva)):
        if getattr(trunk, "attn_pool", None) is not None or trunk.global_pool == "avg":
            return partial(_timm_pooled_tokens, visual)
        blocks = (vision_transformer.Block, eva.EvaBlock)
        if trunk.global_pool == "token" and type(trunk.blocks[-1]) in blocks:
            return partial(_timm_class_token, visual)
        raise _no_dense_features(visual)
    # Any other trunk: one that ends in a feature map can pool each position alone.
    reference = next(visual.parameters())
    size = visual.image_size
    with torch.no_grad():
        probe = trunk.forward_features(torch.zeros(1, 3, *size).to(reference))
    if probe.ndim == 4 and probe.shape[1] == trunk.num_features:
        return partial(_timm_feature_map, visual, False)
    if probe.ndim == 4 and probe.shape[-1] == trunk.num_features:
        return partial(_timm_feature_map, visual, True)
    raise _no_dense_features(visual)


def _timm_class_token(visual: TimmModel, pixels: Tensor) -> ImageFeatures:
    trunk = visual.trunk
    block = trunk.blocks[-1]
    output = visual.forward_intermediates(pixels, indices=[len(trunk.blocks) - 2])
    x, grid = _positions(output["image_intermediates"][0])  # into the last block, [B, P, W]
    x = _alone(block.attn, block.norm1(x))
    if hasattr(block, "ls1"):
        x = block.ls1(x)
    elif block.gamma_1 is not None:  # an EvaBlock
        x = block.gamma_1 * x
    return ImageFeatures(output["image_features"], _timm_tail(visual, trunk.norm(x)), grid)


def _timm_pooled_tokens(visual: TimmModel, pixels: Tensor) -> ImageFeatures:
    trunk = visual.trunk
    tokens = trunk.forward_features(pixels)  # [B, prefix + P, W], normalised
    x = tokens[:, trunk.num_prefix_tokens :]
    if getattr(trunk, "attn_pool", None) is not None:
        x = _alone(trunk.attn_pool, x)
    global_ = visual.head(trunk.forward_head(tokens))
    return ImageFeatures(global_, _timm_tail(visual, x), tuple(trunk.patch_embed.grid_size))


def _timm_tail(visual: TimmModel, x: Tensor) -> Tensor:
    """What follows the pooling of a timm transformer and open_clip's own head, per position."""
    trunk = visual.trunk
    result: Tensor = visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(x))))
    return result


def _timm_attention_pool(visual: TimmModel, pixels: Tensor) -> ImageFeatures:
    feature_map = visual.trunk(pixels)  # [B, C, h, w]: open_clip switched the trunk's pool off
    pool = visual.head.pool
    x, grid = _positions(feature_map)
    value = pool.v(x) if pool.qkv is None else pool.qkv(x).chunk(3, dim=-1)[2]
    local = visual.head[1:](pool.proj(value))
    return ImageFeatures(visual.head(feature_map), local, grid)


def _timm_feature_map(visual: TimmModel, channels_last: bool, pixels: Tensor) -> ImageFeatures:
    trunk = visual.trunk
    feature_map = trunk.forward_features(pixels)
    global_ = visual.head(trunk.forward_head(feature_map))
    x, grid = _positions(feature_map.movedim(-1, 1) if channels_last else feature_map)
    batch, positions, channels = x.shape
    shape = (-1, 1, 1, channels) if channels_last else (-1, channels, 1, 1)
    local = visual.head(trunk.forward_head(x.reshape(shape)))  # each position a map of one
    return ImageFeatures(global_, local.reshape(batch, positions, -1), grid)
