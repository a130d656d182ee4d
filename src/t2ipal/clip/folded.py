"""Convolutional towers as they compute fastest when nothing is trained any more.

In evaluation a batch normalisation is a scale and a shift per channel, which the convolution before
it can do; and convolutions are faster with the channels of a pixel side by side in memory. Features
change in their last bits only.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_TRUNKS = ("EfficientNet",)  # of timm, by name, as timm is slow to import


def fold(visual: nn.Module) -> torch.memory_format:
    """Fold an open_clip vision tower, in place; how pixels should lie in memory for it.

    Only towers are changed in which each normalisation stands right behind its convolution.
    """
    trunk = getattr(visual, "trunk", None)
    of_timm = isinstance(visual, TimmModel) and type(trunk).__name__ in _TRUNKS
    if not (of_timm or isinstance(visual, ModifiedResNet)):
        return torch.contiguous_format
    for module in visual.modules():
        for (name, layer), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, next_name, getattr(norm, "act", nn.Identity()))  # timm's joins both
    visual.to(memory_format=torch.channels_last)
    return torch.channels_last
