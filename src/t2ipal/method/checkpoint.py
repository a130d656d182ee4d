"""Which tensors a saved recognizer holds, and a strict check that it holds them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from t2ipal.errors import UserError
from t2ipal.method.head_config import HeadConfig, PromptKind

Shape = tuple[int | str, ...]
"""Sizes; a letter stands for a size that must be the same wherever the letter stands."""


def pair_names(kind: PromptKind) -> tuple[str, str]:
    """What the two class embeddings, and the two contexts behind them, are called on disk.

    They are those of the branches, or for DualCoOp those of its negative and positive prompts.
    """
    return ("negative", "positive") if kind == "dual" else ("global", "local")


def tuned_shapes(config: HeadConfig, classes: int) -> dict[str, Shape]:
    """Name and shape of each tensor of a head of this configuration with this many classes."""
    pair = pair_names(config.prompts.kind)
    shapes: dict[str, Shape] = {f"class_embeddings.{name}": (classes, "D") for name in pair}
    if config.prompts.kind != "fixed":
        context: Shape = (config.prompts.context_tokens, "Wt")
        if config.prompts.per_class:
            context = (classes, *context)
        shapes |= {f"prompts.{name}_context": context for name in pair}
    if config.prototypes.enabled:
        shapes["prototypes.vectors"] = (classes, config.prototypes.per_class, "D")
    if config.adapter.kind in ("cache", "projection"):
        shapes["adapter.keys"] = ("N", "D")
    if config.adapter.kind == "cache":
        shapes["adapter.values"] = ("N", classes)
    if config.adapter.kind == "bottleneck":
        shapes["adapter.down"] = ("H", "D")
        shapes["adapter.up"] = ("D", "H")
    return shapes


def check_state(state: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> None:
    """Raise a UserError unless ``state`` has exactly these tensors in these shapes."""
    for name in shapes:
        if name not in state:
            raise UserError(
                f"the saved model has no tensor {name!r}, which its configuration asks for: "
                "the file is incomplete or belongs to another configuration."
            )
    for name in state:
        if name not in shapes:
            raise UserError(
                f"the saved model has a tensor {name!r} that its configuration does not know: "
                "the file belongs to another configuration."
            )
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        found = tuple(state[name].shape)
        expected = tuple(
            dim if isinstance(dim, int) else sizes.setdefault(dim, size)
            for dim, size in zip(shape, found, strict=False)
        )
        if len(found) != len(shape) or found != expected:
            wanted = ", ".join(
                f"{dim}={sizes[dim]}" if isinstance(dim, str) and dim in sizes else str(dim)
                for dim in shape
            )
            raise UserError(
                f"the saved tensor {name!r} has shape {list(found)}, but its configuration and the "
                f"other tensors ask for [{wanted}]."
            )
