"""Where a pipeline's weights lie while it runs: on the device, or in main memory until needed.

Attention slicing, the older remedy, is left out: PyTorch's own attention needs no large matrix, and
diffusers advises against both together. Where the weights lie changes no number.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

LEVELS = {
    "whole": "the whole pipeline lies on the device",
    "parts": "each part comes to the device when it is needed and the others wait in main memory",
    "layers": "each layer comes to the device when it is needed, which is slow",
}
"""From the fastest to the one that needs least memory of the device."""

WORKING_BYTES = 2 * 2**30
"""Kept free for activations beside the weights: an estimate. If it is too small, memory runs out;
``TextToImage`` then halves the batch and, at one image, goes one level down."""


def _choose(weights: Mapping[str, int], free: int) -> str:
    """The fastest level at which the parts' weights (bytes by name) fit into ``free`` bytes."""
    room = free - WORKING_BYTES
    if sum(weights.values()) <= room:
        return "whole"
    return "parts" if max(weights.values(), default=0) <= room else "layers"


class Placement:
    """A pipeline on ``device``, at one of :data:`LEVELS`."""

    def __init__(self, pipe: Any, device: torch.device) -> None:
        """Take over ``pipe``, all of which lies there already."""
        self._pipe = pipe
        self.device = device
        self.level = "whole"

    @classmethod
    def fitting(cls, pipe: Any, device: torch.device) -> Placement:
        """Bring ``pipe`` from main memory to ``device``, as much of it as fits."""
        placement = cls(pipe, device)
        weights = _part_bytes(pipe)
        free = _free_bytes(device)
        level = "whole" if free is None else _choose(weights, free)
        if level != "whole":
            log.warning(
                "%s has %.1f GB of weights and %s %.1f GB free: %s.",
                type(pipe).__name__, sum(weights.values()) / 1e9, device, (free or 0) / 1e9,
                LEVELS[level],
            )  # fmt: skip
        placement.put(level)
        return placement

    def put(self, level: str) -> None:
        """Bring the pipeline to a level."""
        if level == "parts" and getattr(self._pipe, "model_cpu_offload_seq", None) is None:
            level = "layers"  # diffusers does not know in which order the parts are needed
        if level == "whole":
            self._pipe.to(self.device)
        elif level == "parts":
            self._pipe.enable_model_cpu_offload(device=self.device)
        else:
            self._pipe.remove_all_hooks()
            self._pipe.enable_group_offload(self.device, offload_type="leaf_level")
        self.level = level

    def spare(self) -> bool:
        """Go one level down to need less of the device's memory; False if there is none."""
        levels = list(LEVELS)
        if _free_bytes(self.device) is None or self.level == levels[-1]:
            return False
        self.put(levels[levels.index(self.level) + 1])
        return True


def networks_of(pipe: Any) -> dict[str, nn.Module]:
    """The networks among a pipeline's components, by name."""
    return {name: part for name, part in pipe.components.items() if hasattr(part, "parameters")}


def _part_bytes(pipe: Any) -> dict[str, int]:
    """Bytes of the weights of each network in a pipeline."""
    return {
        name: sum(weight.nbytes for weight in (*network.parameters(), *network.buffers()))
        for name, network in networks_of(pipe).items()
    }


def _free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU that has its own; None if the device shares main memory."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
