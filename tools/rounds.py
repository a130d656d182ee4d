"""How the scripts of speed print what their rounds took. Imports nothing large."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence


def spread(values: Sequence[float], form: str) -> str:
    """Median and range, such as ``1.25 (1.10 to 1.31)`` for the form ``.2f``."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def finished(device: str) -> float:
    """The time once a device has nothing more to do: a GPU works on while Python goes ahead."""
    import torch

    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def limit(device: str) -> str:
    """How fast the machine is at best: a product of two float32 matrices, the best of ten."""
    import torch

    side = 2048 if device == "cpu" else 8192
    left, right = torch.rand(2, side, side, device=device)
    seconds = []
    for _ in range(10):
        started = finished(device)
        left @ right
        seconds.append(finished(device) - started)
    rate = 2 * side**3 / min(seconds) / 1e9
    return f"{device}, a product of {side} x {side} float32 matrices: {rate:,.0f} GFLOP/s"
