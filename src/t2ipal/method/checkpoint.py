"""The tensors of a head that are saved, and a head made of them again.

Beside the frozen CLIP they are all that scoring needs: contexts, class embeddings (so that a loaded
model scores the same bytes, with no text tower at hand), prototypes, adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from t2ipal.errors import UserError
from t2ipal.method.adapter import Adapter
from t2ipal.method.dual import HEADS
from t2ipal.method.grown import GrownHead, added_config
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import HeadConfig, PromptKind
from t2ipal.method.prompts import ClassEmbeddings, FixedPrompts, LearnedPrompts
from t2ipal.method.prototypes import Prototypes

_ADDED = "added.{}."
"""Before the names of the tensors of each group of added classes."""

_LARGEST = 1e6  # tuned values are of the order of 1; products of larger ones overflow
_Shape = tuple[int | str, ...]
"""Sizes; a letter stands for a size that must be the same wherever the letter stands."""


@torch.no_grad()
def tuned_state(head: T2IPALHead) -> dict[str, Tensor]:
    """Copies on the CPU of the tensors to save, by name; CLIP's own weights are not among them.

    Raises:
        RuntimeError: prototypes or adapter were never started.
    """
    head.require_started()
    if isinstance(head, GrownHead):
        own, *added = head.groups
        return tuned_state(own) | {
            _ADDED.format(number) + key: tensor
            for number, group in enumerate(added)
            for key, tensor in tuned_state(group).items()
        }
    classes = head.class_embeddings()
    first, second = _pair_names(head.config.prompts.kind)
    state = {
        f"class_embeddings.{first}": classes.global_,
        f"class_embeddings.{second}": classes.local,
    }
    if isinstance(head.prompts, LearnedPrompts):
        state[f"prompts.{first}_context"] = head.prompts.global_context
        state[f"prompts.{second}_context"] = head.prompts.local_context
    for name, part in (("prototypes", head.prototypes), ("adapter", head.adapter)):
        if part is not None:
            state |= {f"{name}.{key}": tensor for key, tensor in part.state_dict().items()}
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def restore_head(
    config: HeadConfig,
    names: Sequence[str],
    state: Mapping[str, Tensor],
    added: Sequence[Mapping[str, Any]] = (),
) -> T2IPALHead:
    """A head for scoring from its saved tensors, without a text tower.

    Args:
        names: of all classes, the added ones last.
        added: what was added to it, as :func:`additions` gives it.

    Raises:
        UserError: a tensor is missing, unexpected, of another shape or kind, or has no number.
    """
    if added:
        prefixes = tuple(map(_ADDED.format, range(len(added))))
        own = {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
        heads = []
        start = first = len(names) - sum(one["classes"] for one in added)
        for prefix, one in zip(prefixes, added, strict=True):
            end = start + one["classes"]
            tensors = {
                name.removeprefix(prefix): tensor
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
            group = added_config(config, images=one["images"])
            heads.append(restore_head(group, names[start:end], tensors))
            start = end
        return GrownHead(restore_head(config, names[:first], own), heads)
    _check_state(state, config, len(names))
    pair = _pair_names(config.prompts.kind)
    prompts: LearnedPrompts | FixedPrompts
    if config.prompts.kind == "fixed":
        prompts = FixedPrompts(ClassEmbeddings(*(state[f"class_embeddings.{n}"] for n in pair)))
    else:
        first, second = (state[f"prompts.{name}_context"] for name in pair)
        prompts = LearnedPrompts(first, second)
    return _load_tuned(HEADS[config.prompts.kind](config, names, prompts), state)


def additions(head: T2IPALHead) -> list[dict[str, Any]]:
    """What was added to a head, for JSON: number of ``classes``, and if ``images`` were given."""
    added = head.groups[1:] if isinstance(head, GrownHead) else ()
    return [{"classes": len(one.names), "images": one.config.needs_images} for one in added]


@torch.no_grad()
def _load_tuned(head: T2IPALHead, state: Mapping[str, Tensor]) -> T2IPALHead:
    """Put tensors saved under the same configuration into ``head``, and bake it.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape; nothing is changed then.
    """
    _check_state(state, head.config, len(head.names))
    pair = _pair_names(head.config.prompts.kind)
    if isinstance(head.prompts, LearnedPrompts):
        contexts = head.prompts.global_context, head.prompts.local_context
        saved = [state[f"prompts.{name}_context"] for name in pair]
        if saved[0].shape[-1] != contexts[0].shape[-1]:
            raise UserError(
                f"the saved contexts are {saved[0].shape[-1]} wide but this text tower's token "
                f"embeddings {contexts[0].shape[-1]}: load them with the backbone they were tuned "
                "on."
            )
        for context, tensor in zip(contexts, saved, strict=True):
            context.copy_(tensor)
    state = {name: tensor.to(head.device) for name, tensor in state.items()}
    if head.config.prototypes.enabled:
        head.prototypes = Prototypes(head.config.prototypes, state["prototypes.vectors"])
    if head.config.adapter.kind != "none":
        of_adapter = {n: t for n, t in state.items() if n.startswith("adapter.")}
        tensors = {name.removeprefix("adapter."): t for name, t in of_adapter.items()}
        head.adapter = Adapter(head.config.adapter, tensors)
    head.bake(ClassEmbeddings(*(state[f"class_embeddings.{name}"] for name in pair)))
    return head


def _pair_names(kind: PromptKind) -> tuple[str, str]:
    """What the two class embeddings, and the two contexts behind them, are called on disk.

    They are those of the branches, or for DualCoOp those of its negative and positive prompts.
    """
    return ("negative", "positive") if kind == "dual" else ("global", "local")


def _check_state(state: Mapping[str, Tensor], config: HeadConfig, classes: int) -> None:
    """Raise a UserError unless ``state`` has exactly the tensors of such a head, and no others."""
    shapes = _tuned_shapes(config, classes)
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
        if state[name].dtype != torch.float32:
            raise UserError(
                f"the saved tensor {name!r} holds {state[name].dtype}, not torch.float32: the file "
                "was changed; copy or train the model again."
            )
        if not (state[name].abs() < _LARGEST).all():
            raise UserError(
                f"the saved tensor {name!r} holds values that are no numbers, or far too large: "
                "the file was changed; copy or train the model again."
            )
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


def _tuned_shapes(config: HeadConfig, classes: int) -> dict[str, _Shape]:
    """Name and shape of each tensor of a head of this configuration with this many classes."""
    pair = _pair_names(config.prompts.kind)
    shapes: dict[str, _Shape] = {f"class_embeddings.{name}": (classes, "D") for name in pair}
    if config.prompts.kind != "fixed":
        context: _Shape = (config.prompts.context_tokens, "Wt")
        if config.prompts.per_class:
            context = (classes, *context)
        shapes |= {f"prompts.{name}_context": context for name in pair}
    if config.prototypes.enabled:
        shapes["prototypes.vectors"] = (classes, config.prototypes.per_class, "D")
    if config.adapter.kind in ("cache", "projection"):
        shapes["adapter.keys"] = ("N", "D")
    if config.adapter.kind == "cache":
        shapes["adapter.values"] = ("N", classes)
    if config.adapter.kind == "class-cache":
        keys: _Shape = (classes, "K", "D")
        shapes |= {"adapter.present": keys, "adapter.absent": keys}
    if config.adapter.kind == "bottleneck":
        shapes["adapter.down"] = ("H", "D")
        shapes["adapter.up"] = ("D", "H")
    return shapes
