"""The same bits for an image whether its network calls hold one image or many (on a CPU).

A batch of 8 and a batch of 1 take the same steps in exact arithmetic, yet PyTorch and its libraries
choose their kernels by the shape of the whole batch, and another kernel sums in another order. On a
CPU, measured operation by operation in float32, three choices matter:

- ``conv2d`` goes to oneDNN or to PyTorch's own kernel depending on the batch size (one image below
  20,480 values; below 16 images for 1x1 kernels on one thread; NNPACK from 16 images on);
- a matrix product of less than four rows for a thread (time embeddings: one row an image) is done
  by matrix-vector kernels;
- the memory layout of a batch of one is ambiguous (a dimension of size 1 has no stride of its own),
  so that layers miss that it is channels-last, or take it to be, and hand on another layout.

``BatchInvariant`` removes the three choices, and with them the dependence on the number of threads.
It does not promise that no other is left: other processors and libraries have their own. Whoever
relies on it compares bits first, as ``TextToImage.generate`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROWS_PER_THREAD = 16
"""Matrix products get at least this many rows for each thread: four times what was found needed."""


_onednn: Callable[[], bool] = torch.backends.mkldnn.is_available


class BatchInvariant:
    """Inside ``with BatchInvariant(networks):`` float32 layers on a CPU ignore the batch size.

    Each ``nn.Linear``, ``nn.Conv2d`` and ``nn.GroupNorm`` in ``networks`` gets another ``forward``
    for the while. (A ``TorchFunctionMode`` would reach functional calls too, at 7 microseconds for
    every call of PyTorch: 3 % of a small pipeline's time.) Only inference on a CPU is meant:
    oneDNN's convolution is called directly, and hooks of offloaded layers are passed over.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        layers = {id(layer): layer for network in networks for layer in network.modules()}
        forwards = [(layer, _invariant_forward(layer)) for layer in layers.values()]
        self._forwards = [(layer, forward) for layer, forward in forwards if forward is not None]
        self._before: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        for layer, forward in self._forwards:
            own = vars(layer)
            self._before.append({"forward": own["forward"]} if "forward" in own else {})
            own["forward"] = forward

    def __exit__(self, *exception: object) -> None:
        for (layer, _), before in zip(self._forwards, self._before, strict=True):
            del vars(layer)["forward"]
            vars(layer).update(before)
        self._before.clear()


def _invariant_forward(layer: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Another ``forward`` of a layer; None where its own is left alone."""
    forward = type(layer).forward
    if isinstance(layer, nn.Linear) and forward is nn.Linear.forward:
        return lambda input: _linear(input, layer.weight, layer.bias)
    if isinstance(layer, nn.GroupNorm) and forward is nn.GroupNorm.forward:
        return lambda input: _group_norm(layer, input)
    if isinstance(layer, nn.Conv2d) and forward is nn.Conv2d.forward:
        return lambda input: _conv2d(layer, input)
    return None


def _applies(input: Tensor) -> bool:
    return input.device.type == "cpu" and input.dtype == torch.float32


def _conv2d(layer: nn.Conv2d, input: Tensor) -> Tensor:
    padding = layer.padding
    direct = _applies(input) and input.ndim == 4 and _onednn()
    if not direct or isinstance(padding, str) or layer.padding_mode != "zeros":
        plain: Tensor = layer._conv_forward(input, layer.weight, layer.bias)
        return plain
    image = _channels_last(input)  # [B, C, H, W]
    if layer.kernel_size == layer.stride == (1, 1) and padding == (0, 0) and layer.groups == 1:
        return _linear(image.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)
    convolved: Tensor = torch.mkldnn_convolution(
        image, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups
    )
    return convolved


def _channels_last(input: Tensor) -> Tensor:
    """``input`` [B, C, H, W] in memory as [B, H, W, C], with the strides that a batch has.

    Which layout arrives depends on the batch, so all take the one that costs least. The strides are
    set because a batch of one may have an odd first one, which hides the layout from PyTorch.
    """
    _, channels, height, width = input.shape
    strides = (channels * height * width, 1, channels * width, channels)
    return input.contiguous(memory_format=torch.channels_last).as_strided(input.shape, strides)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    wanted = _ROWS_PER_THREAD * torch.get_num_threads()
    rows = input.shape[:-1].numel()
    if not _applies(input) or rows >= wanted:
        return F.linear(input, weight, bias)
    padded = F.pad(input.reshape(rows, input.shape[-1]), (0, 0, 0, wanted - rows))
    return F.linear(padded, weight, bias)[:rows].reshape(*input.shape[:-1], weight.shape[0])


def _group_norm(layer: nn.GroupNorm, input: Tensor) -> Tensor:
    # channels-last, large images are summed in pieces that depend on batch and threads
    whole = input.contiguous() if _applies(input) else input  # [B, C, ...]
    return F.group_norm(whole, layer.num_groups, layer.weight, layer.bias, layer.eps)
