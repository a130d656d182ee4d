"""One HTML page of a run: figures, generated images, tagged scenes. Self-contained, no scripts.

``page.html.j2`` is the page and ``style.css`` its style sheet; this module fills them in.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from t2ipal.report.content import MethodResult, ReportContent, mean, spread
from t2ipal.report.overlay import heat_overlay

_MISSING = "–"  # noqa: RUF001 - an en dash, as tables print an undefined figure
_MOST_SERIES = 4  # methods marked beside the focus in the chart of classes
_WORST_CLASSES = 3  # whose precision-recall curves are drawn beside the mean
_LONGEST = 256  # pixels of the longer side of an inlined image
_LOSSLESS = 128  # up to this a PNG is small; a photo above it is ten times smaller as JPEG


def report_page(content: ReportContent) -> str:
    """The page as text: valid HTML5, every image inlined, the same for the same content."""
    focus = content.focus_method
    rows = _class_rows(content, focus)
    measured = focus is not None and bool(focus.class_ap)
    pictured = any(card.images for card in content.captions)
    sections = {
        "methods": ("Methods", content.methods),
        "classes": ("Average precision per class" if measured else "Threshold per class", rows),
        "curves": (
            "Precision, recall, probability",
            content.accuracy and content.accuracy.reliability,
        ),
        "tags": ("Tags at the thresholds", content.accuracy),
        "scenes": ("Test images", content.scenes),
        "mistakes": ("The worst mistakes", content.mistakes),
        "next": ("What to do next", content.next_steps),
        "captions": (f"Captions{' and their generated images' * pictured}", content.captions),
        "counts": ("Labels", content.counts),
        "gap": ("Modality gap", content.gap),
        "made": ("How it was made", content.command or content.settings or content.made),
    }
    return rendered(
        "page.html.j2",
        report=content,
        sections={name: title for name, (title, shown) in sections.items() if shown},
        focus=focus,
        others=_others(content, focus),
        class_rows=rows,
        curves=_curves(content),
        tag_rows=_tag_rows(content),
        clouds=_clouds(content),
        groups={"method": "", "ablation": "Ablations", "ceiling": "Ceiling"},
        missing=_MISSING,
        pictured=pictured,
        overlay=heat_overlay,
    )


def rendered(template: str, **values: Any) -> str:
    """A template of this folder filled in with values.

    All text is escaped by Jinja's autoescaping; the templates mark nothing as safe.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("t2ipal", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters.update(
        percent=_percent,
        signed=_signed,
        mean=mean,
        spread=spread,
        inlined=_inlined,
        placed=_placed,
    )
    return jinja.get_template(template).render(**values)


class _ClassRow(NamedTuple):
    """A class in the chart: its average precision (or None), the other methods', its threshold."""

    name: str
    value: float | None
    others: tuple[float, ...]
    threshold: float | None


def _others(content: ReportContent, focus: MethodResult | None) -> list[MethodResult]:
    """The whole methods that the chart of classes marks beside the focus."""
    if focus is None or not focus.class_ap:
        return []
    whole = [method for method in content.methods if method.group == "method" and method.class_ap]
    return [method for method in whole if method is not focus][:_MOST_SERIES]


def _class_rows(content: ReportContent, focus: MethodResult | None) -> list[_ClassRow]:
    """The rows of the chart, best first and undefined last; none if nothing is known per class."""
    values: Sequence[float | None] = focus.class_ap if focus else ()
    if not values and not content.thresholds:
        return []
    others = _others(content, focus)
    rows = [
        _ClassRow(
            name,
            values[c] if values else None,
            tuple(method.class_ap[c] for method in others),
            content.thresholds[c] if content.thresholds else None,
        )
        for c, name in enumerate(content.classes)
    ]

    def rank(row: _ClassRow) -> float:
        return 1 if row.value is None or math.isnan(row.value) else -row.value

    return sorted(rows, key=rank)


def _curves(content: ReportContent) -> dict[str, Any] | None:
    """Precision [R] at evenly spaced recalls: of the mean and the quartiles over the classes.

    ``worst`` has the classes of lowest AP, each with its AP and its curve. None without a class
    that a test image shows.
    """
    if content.accuracy is None:
        return None
    precision, ap = content.accuracy.precision, np.array(content.accuracy.average_precision)
    shown = np.flatnonzero(~np.isnan(ap))
    if not len(shown):
        return None
    low, high = np.quantile(precision[shown], (0.25, 0.75), axis=0)
    worst = shown[np.argsort(ap[shown], kind="stable")][:_WORST_CLASSES]
    return {
        "mean": precision[shown].mean(axis=0),
        "low": low,
        "high": high,
        "worst": [(content.classes[c], float(ap[c]), precision[c]) for c in worst],
    }


def _tag_rows(content: ReportContent) -> list[tuple[Any, float]]:
    """Classes with their thresholds, lowest F1 first; classes that no image shows come last."""
    if content.accuracy is None:
        return []
    tags = content.accuracy.tags
    rows = zip(tags, content.thresholds or [math.nan] * len(tags), strict=True)
    return sorted(rows, key=lambda row: row[0].f1 if row[0].shown else math.inf)


def _clouds(content: ReportContent) -> dict[str, np.ndarray]:
    """The map of the modality gap, its points [n, 2] moved into the unit square, shape kept."""
    points = content.gap.points if content.gap else {}
    if not points:
        return {}
    every = np.concatenate(list(points.values()))
    low, high = every.min(axis=0), every.max(axis=0)
    size = max(float((high - low).max()), 1e-9)
    start = (low + high - size) / 2
    return {name: (cloud - start) / size for name, cloud in points.items()}


def _placed(values: Sequence[float] | np.ndarray, back: bool = False) -> str:
    """Points of a chart for SVG's ``points``: values at evenly spaced places, from 0 to 1.

    The chart's unit square is 200 wide and high, its origin above. ``back``: from 1 to 0.
    """
    last = max(len(values) - 1, 1)
    points = [f"{200 * i / last:.4g},{200 * (1 - v):.4g}" for i, v in enumerate(values)]
    return " ".join(reversed(points) if back else points)


def _percent(value: float) -> str:
    """A fraction as a percentage with one decimal, without the sign: 0.7631 -> ``76.3``."""
    return _MISSING if math.isnan(value) else f"{100 * value:.1f}"


def _signed(value: float) -> str:
    """A difference of fractions in percent points with a sign: ``+3.4``; 0.0 has none."""
    if math.isnan(value):
        return _MISSING
    figure = f"{abs(100 * value):.1f}"
    if figure == "0.0":
        return figure
    return f"+{figure}" if value > 0 else f"\N{MINUS SIGN}{figure}"


class _Inlined(NamedTuple):
    """An image as a ``data:`` address, with its size in pixels."""

    address: str
    width: int
    height: int


def _inlined(image: Image.Image) -> _Inlined:
    """PNG, or JPEG where a PNG would weigh too much, at most 256 pixels on the longer side."""
    image = image.convert("RGB")
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= _LOSSLESS:
        kind = "png"
        image.save(buffer, format="PNG", optimize=True)
    else:
        kind = "jpeg"
        image.save(buffer, format="JPEG", quality=88, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return _Inlined(f"data:image/{kind};base64,{data}", image.width, image.height)
