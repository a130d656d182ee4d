"""How the scripts of speed print what their rounds took. Imports nothing large."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], form: str) -> str:
    """Median and range, such as ``1.25 (1.10 to 1.31)`` for the form ``.2f``."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"
