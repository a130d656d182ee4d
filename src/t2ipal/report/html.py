"""Small pieces of HTML: escaped text, formatted figures, inlined images, chips and bars."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

from t2ipal.report.content import mean, spread

MISSING = "–"  # noqa: RUF001 - an en dash, as tables print an undefined figure
_LONGEST = 256  # pixels of the longer side of an inlined image
_LOSSLESS = 128  # up to this a PNG is small; a photo above it is ten times smaller as JPEG


def text(value: object) -> str:
    """``value`` as HTML text or as an attribute in double quotes."""
    return escape(str(value), quote=True)


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal, without the sign: 0.7631 -> ``76.3``."""
    return MISSING if math.isnan(value) else f"{100 * value:.1f}"


def signed(value: float) -> str:
    """A difference of fractions in percent points with a sign: ``+3.4``; 0.0 has none."""
    if math.isnan(value):
        return MISSING
    figure = f"{abs(100 * value):.1f}"
    if figure == "0.0":
        return figure
    return f"+{figure}" if value > 0 else f"\N{MINUS SIGN}{figure}"


def over_seeds(values: Sequence[float]) -> str:
    """Mean and, from two seeds on, standard deviation in percent, as HTML."""
    deviation = spread(values)
    figure = f"<b>{percent(mean(values))}</b>"
    if not math.isnan(deviation):
        figure += f' <span class="spread">± {percent(deviation)}</span>'
    return figure


def picture(image: Image.Image, alt: str) -> str:
    """An ``<img>`` that carries its image: PNG, or JPEG where a PNG would weigh too much.

    Larger images are scaled down to 256 pixels on the longer side.
    """
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
    return (
        f'<img src="data:image/{kind};base64,{data}" alt="{text(alt)}" '
        f'width="{image.width}" height="{image.height}">'
    )


def chip(label: str, kind: str = "", title: str = "") -> str:
    """A small rounded label. ``kind`` is a class of the style sheet."""
    hint = f' title="{text(title)}"' if title else ""
    return f'<span class="chip {kind}"{hint}>{text(label)}</span>'


def chips(parts: Iterable[str]) -> str:
    """Chips in a row; nothing for no chips."""
    inner = "".join(parts)
    return f'<p class="chips">{inner}</p>' if inner else ""


def bar(value: float, label: str, dots: Sequence[tuple[float, int]] = ()) -> str:
    """A bar from 0 to ``value`` (a fraction) as inline SVG; it is as wide as its cell.

    ``dots``: (fraction, series number from 1) to mark beside it. nan draws nothing.
    """
    shapes = ['<rect class="track" width="100%" height="100%" rx="3"/>']
    if value > 0:
        shapes.append(
            f'<rect class="fill" width="{100 * min(value, 1):.2f}%" height="100%" rx="3"/>'
        )
    for place, series in dots:
        if not math.isnan(place):
            shapes.append(f'<circle class="s{series}" cx="{100 * place:.2f}%" cy="50%" r="4"/>')
    return f'<svg class="bar" role="img" aria-label="{text(label)}">{"".join(shapes)}</svg>'


def section(title: str, body: str, lead: str = "") -> str:
    """A titled section; ``body`` and ``lead`` are HTML."""
    intro = f'<p class="lead">{lead}</p>' if lead else ""
    return f"<section>\n<h2>{text(title)}</h2>\n{intro}\n{body}\n</section>"
