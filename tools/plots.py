"""Figures of docs/results.md as small SVG files (matplotlib)."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from t2ipal.files import write_text
from t2ipal.report.content import mean, spread

COLOURS = ("#2f6f9f", "#d08a1d", "#7d5ba6", "#2e8b7a", "#8a8f99")
Values = Sequence[float]
"""One figure per seed, in [0, 1]."""


def curves(
    path: Path, across: str, places: Sequence[str], lines: Mapping[str, Sequence[Values]]
) -> None:
    """mAP in per cent over evenly spaced places, with the sample deviation over the seeds.

    Args:
        across: what the places are, the label of the axis.
        lines: name -> figures at each place; a line with one place is drawn level.
    """
    with _axes(path, "mAP (%)", across) as axes:
        for (name, found), colour in zip(lines.items(), COLOURS, strict=False):
            level = len(found) == 1
            shown = list(found) * len(places) if level else found
            heights = [100 * mean(values) for values in shown]
            errors = [0 if math.isnan(s := spread(v)) else 100 * s for v in shown]
            style = "--" if level else "o-"
            axes.plot(heights, style, color=colour, label=name, markersize=4, linewidth=1.4)
            low, high = np.subtract(heights, errors), np.add(heights, errors)
            axes.fill_between(range(len(places)), low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(range(len(places)), places)


def scatter(path: Path, sets: Mapping[str, np.ndarray]) -> None:
    """Points [N, 2] of each set, with its centroid."""
    with _axes(path, "second component", "first principal component") as axes:
        for (name, points), colour in zip(sets.items(), COLOURS, strict=False):
            axes.plot(*points.T, ".", color=colour, alpha=0.6, markersize=6, label=name, mew=0)
            axes.plot(*points.mean(axis=0), "P", color=colour, markersize=9, mec="white")


@contextmanager
def _axes(path: Path, up: str, across: str) -> Iterator[Any]:
    """A small pair of axes, written at the end of the block; the same file for the same data."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.0), layout="constrained")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    write_text(path, "\n".join(lines) + "\n")
