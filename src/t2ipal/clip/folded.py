"""Vision towers as they compute fastest when nothing is trained any more.

In evaluation a batch normalisation is a scale and a shift per channel, which the convolution before
it can do; convolutions are faster with the channels of a pixel side by side in memory; and on a
CPU the layers of :mod:`t2ipal.clip.onednn` are faster than PyTorch's. Features change in their last
bits only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from open_clip.modified_resnet import Bottleneck, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from t2ipal.clip import onednn

_TRUNKS = ("EfficientNet",)  # of timm, by name, as timm is slow to import


@torch.no_grad()
def fold(visual: nn.Module) -> torch.memory_format:
    """Fold an open_clip vision tower, in place; how pixels should lie in memory for it.

    Convolutions are changed in those towers only in which each normalisation stands right behind
    its convolution.
    """
    fuse_attention(visual)
    module: Any
    for module in visual.modules():
        if type(module) is ResidualAttentionBlock:
            first, activation, _ = module.mlp
            if onednn.fuse(first, activation):
                module.mlp[1] = nn.Identity()
    for module in visual.modules():
        if type(module) is nn.Linear:
            onednn.fuse(module)
    trunk = getattr(visual, "trunk", None)
    of_timm = isinstance(visual, TimmModel) and type(trunk).__name__ in _TRUNKS
    memory_format = torch.contiguous_format
    if of_timm or isinstance(visual, ModifiedResNet):
        memory_format = torch.channels_last
        for module in visual.modules():
            _fold_convolutions(module)
    visual.eval().to(memory_format=memory_format)
    return memory_format


def fuse_attention(tower: nn.Module) -> None:
    """Make the attention of open_clip's blocks :class:`t2ipal.clip.onednn.SelfAttention`."""
    module: Any
    for module in tower.modules():
        if type(module) is ResidualAttentionBlock:
            onednn.fuse(module.attn)


def _fold_convolutions(module: nn.Module) -> None:
    """The convolutions among the children do the normalisation and the activation behind them."""
    for (name, layer), (next_name, norm) in pairwise(list(module.named_children())):
        if not (isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        activation = getattr(norm, "act", nn.Identity())  # timm's normalisation has it
        if isinstance(module, (ModifiedResNet, Bottleneck)):
            act_name = next_name.replace("bn", "act")
            activation = getattr(module, act_name)
            setattr(module, act_name, nn.Identity())
        folded = fuse_conv_bn_eval(layer, norm)
        fused = onednn.fuse(folded, activation)
        setattr(module, name, folded)
        setattr(module, next_name, nn.Identity() if fused else activation)
    if isinstance(module, Bottleneck):
        module.__class__ = _Bottleneck


class _Bottleneck(Bottleneck):  # type: ignore[misc]  # which mypy does not see
    """A block whose last convolution adds the shortcut before its activation."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        result: Tensor = self.conv3(self.avgpool(self.conv2(self.conv1(x))), shortcut)
        return result
