"""Towers that open_clip has no class for, with the attributes of those that it has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "gelu_new": partial(nn.GELU, approximate="tanh"),
}
"""By transformers' name, ``hidden_act``."""


class TransformersCLIP(nn.Module):
    """A CLIP of transformers as :class:`t2ipal.clip.backbone.Backbone` takes one.

    Attributes:
        visual: an open_clip vision tower, with ``preprocess_cfg``.
        text: an open_clip text tower, or a :class:`BertTower`.
        logit_scale: the logarithm of what similarities are multiplied with.
    """

    def __init__(self, visual: nn.Module, text: nn.Module, logit_scale: Tensor) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.logit_scale = nn.Parameter(logit_scale.float())


class BertTower(nn.Module):
    """The BERT of Chinese-CLIP (arXiv 2211.01335, section 2), from token embeddings on.

    Its attributes are those of open_clip's ``TextTransformer``. Each token sees all others up to
    the text's end; the first one is the text's feature.
    """

    def __init__(self, shape: dict[str, Any], output_dim: int) -> None:
        super().__init__()
        width = shape["width"]
        self.token_embedding = nn.Embedding(shape["vocabulary"], width)
        self.positional_embedding = nn.Parameter(torch.empty(shape["positions"], width))
        self.transformer = _BertLayers(shape)
        self.ln_final = nn.Identity()
        self.text_projection = nn.Parameter(torch.empty(width, output_dim))
        self.attn_mask = None
        self.cls_emb = None
        self.pool_type = "first"
        self.eos_id = -1


class _BertLayers(nn.Module):
    """Norm, then layers that normalise behind each branch."""

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape["width"], eps=shape["eps"])
        layer = partial(
            nn.TransformerEncoderLayer,
            shape["width"],
            shape["heads"],
            shape["hidden"],
            dropout=0.0,
            activation=ACTIVATIONS[shape["activation"]](),
            layer_norm_eps=shape["eps"],
            batch_first=True,
        )
        self.layers = nn.ModuleList(layer() for _ in range(shape["layers"]))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """[B, T, W] and [B, T] bool, what lies behind the text's end -> [B, T, W]."""
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=hidden)
        return x


class SiglipTower(TimmModel):  # type: ignore[misc]  # which mypy does not see
    """A vision transformer of timm that pools with a learned query, of any size."""

    def __init__(self, shape: dict[str, Any]) -> None:
        from timm.models.vision_transformer import VisionTransformer as TimmTransformer

        nn.Module.__init__(self)  # TimmModel's own makes trunks of known names only
        side = shape["image_size"]
        self.image_size = (side, side)
        self.trunk = TimmTransformer(
            img_size=side,
            patch_size=shape["patch_size"],
            num_classes=0,
            global_pool="map",
            embed_dim=shape["width"],
            depth=shape["layers"],
            num_heads=shape["heads"],
            mlp_ratio=mlp_ratio(shape),
            class_token=False,
            norm_layer=partial(nn.LayerNorm, eps=shape["eps"]),
            act_layer=ACTIVATIONS[shape["activation"]],
        )
        self.head = nn.Sequential()


def mlp_ratio(shape: dict[str, Any]) -> float:
    """What gives the hidden width again when multiplied with the width and rounded down."""
    return float((shape["hidden"] + 0.5) / shape["width"])
