"""Vision towers at another input size, by interpolating their positional embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from t2ipal.errors import UserError


def resize_tower(visual: nn.Module, image_size: int) -> None:
    """Make an open_clip vision tower take square images of ``image_size`` pixels, in place.

    The result for a ``VisionTransformer`` is what open_clip's ``force_image_size`` gives when it
    loads a checkpoint. open_clip does not interpolate the positions of a ``ModifiedResNet``'s
    attention pool; here they are treated in the same way.

    Raises:
        UserError: the tower's stride does not divide ``image_size``.
    """
    if isinstance(visual, ModifiedResNet):
        side = _cells(image_size, 32)
        pool = visual.attnpool
        pool.positional_embedding = _resized(pool.positional_embedding, side)
        visual.image_size = image_size
    elif isinstance(visual, VisionTransformer):
        side = _cells(image_size, visual.patch_size[0])
        visual.positional_embedding = _resized(visual.positional_embedding, side)
        visual.grid_size = (side, side)
        visual.image_size = (image_size, image_size)
    elif isinstance(visual, TimmModel):
        embed = getattr(visual.trunk, "patch_embed", None)
        patch = getattr(embed, "patch_size", None)
        if patch is not None:
            _cells(image_size, patch[0])
        visual.set_input_size(image_size)
    else:
        raise UserError(
            f"the vision tower {type(visual).__name__} cannot take another image size; "
            "leave image_size unset."
        )


def _interpolate_positions(positions: Tensor, side: int) -> Tensor:
    """Positional embeddings [1 + h*h, W] of one class token and a square grid, for another grid.

    Bicubic with antialiasing, as open_clip's ``resize_pos_embed``; the class token's stays:
    [1 + side*side, W].
    """
    old_side = round((len(positions) - 1) ** 0.5)
    if old_side == side:
        return positions
    token, grid = positions[:1], positions[1:]
    grid = grid.T.reshape(1, -1, old_side, old_side)  # [1, W, h, h]
    grid = F.interpolate(
        grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([token, grid.reshape(grid.shape[1], -1).T])


def _resized(parameter: nn.Parameter, side: int) -> nn.Parameter:
    return nn.Parameter(_interpolate_positions(parameter.detach(), side), requires_grad=False)


def _cells(image_size: int, stride: int) -> int:
    """How many cells of ``stride`` pixels make one side of the image."""
    if image_size < stride or image_size % stride:
        below = max(stride, image_size // stride * stride)
        above = below + stride
        raise UserError(
            f"image size {image_size} is not a multiple of this model's stride of {stride} pixels; "
            f"use {below} or {above}."
        )
    return image_size // stride
