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
relies on it compares bits first, as ``TextToImage.draw`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROWS_PER_THREAD = 16
"""Matrix products get at least this many rows for each thread: four times what was found needed."""


class BatchInvariant(TorchFunctionMode):
    """Inside ``with BatchInvariant():`` float32 layers on a CPU ignore how large the batch is.

    Only inference is meant: oneDNN's convolution is called directly.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return _INVARIANT.get(func, func)(*args, **(kwargs or {}))


def _applies(input: Tensor) -> bool:
    return input.device.type == "cpu" and input.dtype == torch.float32


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _conv2d(
    input: Tensor,  # [B, C, H, W]
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,  # an int, a pair, or the words same and valid
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    direct = _applies(input) and input.ndim == 4 and torch.backends.mkldnn.is_available()
    if isinstance(padding, str) or not direct:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    image = _channels_last(input)
    if weight.shape[2:] == (1, 1) and stride == (1, 1) and padding == (0, 0) and groups == 1:
        return _linear(image.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    return torch.mkldnn_convolution(image, weight, bias, padding, stride, dilation, groups)


def _channels_last(input: Tensor) -> Tensor:
    """``input`` [B, C, H, W] in memory as [B, H, W, C], with the strides that a batch has.

    Which layout arrives depends on the batch, so all take the one that costs least. The strides are
    set because a batch of one may have an odd first one, which hides the layout from PyTorch.
    """
    _, channels, height, width = input.shape
    strides = (channels * height * width, 1, channels * width, channels)
    return input.contiguous(memory_format=torch.channels_last).as_strided(input.shape, strides)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    wanted = ROWS_PER_THREAD * torch.get_num_threads()
    rows = input.shape[:-1].numel()
    if not _applies(input) or rows >= wanted:
        return F.linear(input, weight, bias)
    padded = F.pad(input.reshape(rows, input.shape[-1]), (0, 0, 0, wanted - rows))
    return F.linear(padded, weight, bias)[:rows].reshape(*input.shape[:-1], weight.shape[0])


def _group_norm(
    input: Tensor,  # [B, C, ...]
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    # channels-last, large images are summed in pieces that depend on batch and threads
    whole = input.contiguous() if _applies(input) else input
    return F.group_norm(whole, num_groups, weight, bias, eps)


_INVARIANT: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.conv2d: _conv2d,  # nn.Conv2d and F.conv2d call this very function
    F.linear: _linear,
    F.group_norm: _group_norm,
}
