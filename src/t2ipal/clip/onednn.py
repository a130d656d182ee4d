"""Layers of a frozen tower by oneDNN's own operators, which PyTorch keeps for compiled models.

On a CPU PyTorch reads and writes the result of a layer once more for the activation, and once more
for a sum, which oneDNN does while the numbers are in the cache. Products of float32 matrices it
leaves to MKL, which takes twice as long as oneDNN on AMD's processors with AVX-512; without it, MKL
is the faster one. Compiling the model would give the same, but needs a C++ compiler and a minute.
Features change in their last bits only.

The operators know float32 on the CPU, and no gradients. Anywhere else (on another device, in
autocast, where gradients are recorded, where a graph is traced for export) the layers compute as
those of ``torch.nn`` do, so a tower can be moved, copied and exported as before. Attention alone
does without a detour of ``torch.nn`` where gradients are recorded, as in prompt tuning.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_AVAILABLE = (
    torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # PyTorch promises no private operator
    and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
)
_FASTER_THAN_MKL = torch.backends.cpu.get_cpu_capability() == "AVX512"
_NOTHING = nn.Identity()
_Kind = tuple[str, list[float], str]  # an activation as the operators want it
_KINDS: dict[type[nn.Module], _Kind] = {
    nn.Identity: ("none", [], ""),
    nn.ReLU: ("relu", [], ""),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
    nn.SiLU: ("swish", [], ""),
}


def _kind(activation: nn.Module) -> _Kind:
    if isinstance(activation, nn.GELU):
        return "gelu", [], activation.approximate
    return _KINDS[type(activation)]


def _on_cpu(x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # or exporting
    )


def _usable(x: Tensor) -> bool:
    return _AVAILABLE and _on_cpu(x) and not torch.is_grad_enabled()


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: nn.Module = _NOTHING
) -> Tensor:
    """``torch.nn.functional.linear``, [..., in] -> [..., out], then an activation."""
    result: Tensor
    if _usable(x) and _FASTER_THAN_MKL:
        result = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *_kind(activation))
    else:
        result = activation(F.linear(x, weight, bias))
    return result


class Linear(nn.Linear):
    """A linear layer, then its activation."""

    activation: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, self.activation)


class Convolution(nn.Conv2d):
    """A convolution, a sum with ``added`` if there is such, then its activation."""

    activation: nn.Module

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        result: Tensor
        if not _usable(x):
            result = super().forward(x)
            result = self.activation(result if added is None else result + added)
            return result
        how = (self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        kind, operator = _kind(self.activation), torch.ops.mkldnn._convolution_pointwise
        if added is None:
            result = operator(x, *how, *kind)
        else:
            result = operator.binary(x, added, *how, "add", None, *kind)
        return result


class SelfAttention(nn.MultiheadAttention):
    """The attention of a sequence [B, N, W] to itself, as open_clip's blocks call it.

    PyTorch's own swaps B and N before it projects. With weights that ask for no gradient, that
    becomes N products of B rows each: where B is small, several times as slow on a CPU.
    """

    def forward(self, query: Tensor, *others: Any, **options: Any) -> Any:
        mask = options.get("attn_mask")  # [N, N], added to the scores
        known = mask is None or (mask.is_floating_point() and mask.ndim == 2)
        known &= self.batch_first and not options.keys() - {"need_weights", "attn_mask"}
        if not (known and _on_cpu(query)):
            return super().forward(query, *others, **options)
        stacked = linear(query, self.in_proj_weight, self.in_proj_bias)  # [B, N, 3W]
        parts = stacked.reshape(*query.shape[:2], 3, self.num_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # [B, heads, N, W / heads] each
        mixed = F.scaled_dot_product_attention(q, k, v, mask)
        mixed = mixed.transpose(1, 2).flatten(2)
        return linear(mixed, self.out_proj.weight, self.out_proj.bias), None


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Linear,
    nn.Conv2d: Convolution,
    nn.MultiheadAttention: SelfAttention,
}


def fuse(layer: nn.Module, activation: nn.Module = _NOTHING) -> bool:
    """Make a layer of PyTorch one of these, in place, and the activation behind it a part of it.

    False if that cannot be, as for a subclass or an activation that is unknown here; then nothing
    is changed.
    """
    ours = _CLASSES.get(type(layer))
    if ours is None or type(activation) not in (*_KINDS, nn.GELU):
        return False
    layer.__class__ = ours
    layer.add_module("activation", activation)
    return True
