"""Rebuild the icon atlases of the miniature's world: ``python -m tools.miniature.icons SOURCES``.

SOURCES is a folder with the npm packages ``@iconify-json/{twemoji,noto,noto-v1,emojione,
fluent-emoji-flat}``, each in a folder of its style's name; needs ``pip install resvg-py``. Dining
tables, which no emoji set has, are drawn here.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from t2ipal.files import atomic_path, write_text
from t2ipal.miniature.icons import CELL, COLUMNS, FOLDER, STYLES
from t2ipal.miniature.world import THINGS

# (top, edge, leg, cloth, line width, corner radius): one palette a style, so that tables look alike
# within a style as everything else does.
_TABLE_LOOKS: dict[str, tuple[str, str, str, str, float, float]] = {
    "twemoji": ("#C1694F", "#A0553C", "#A0553C", "#E6E7E8", 0.0, 1.0),
    "noto": ("#A1704A", "#7B5135", "#8A5A3C", "#F2F2F2", 0.0, 2.5),
    "noto-v1": ("#B97C50", "#855C40", "#9E6A46", "#FFF1D6", 0.0, 4.0),
    "emojione": ("#B57B53", "#8A5C3C", "#8A5C3C", "#DDE7EE", 0.0, 0.0),
    "fluent-emoji-flat": ("#D67D00", "#8C5543", "#AD6953", "#FFB02E", 0.0, 3.0),
}


def _table_svg(style: str, kind: int) -> str:
    top, edge, leg, cloth, _, r = _TABLE_LOOKS[style]
    if kind == 1:  # seen from the front, two legs and a plate
        body = (
            f'<rect x="10" y="30" width="7" height="26" rx="{r}" fill="{leg}"/>'
            f'<rect x="47" y="30" width="7" height="26" rx="{r}" fill="{leg}"/>'
            f'<rect x="3" y="23" width="58" height="9" rx="{r}" fill="{top}"/>'
            f'<rect x="3" y="29" width="58" height="3" fill="{edge}"/>'
            f'<ellipse cx="32" cy="22" rx="11" ry="3" fill="{cloth}"/>'
        )
    elif kind == 2:  # seen at an angle, four legs
        body = (
            f'<rect x="7" y="32" width="5" height="26" rx="{r}" fill="{leg}"/>'
            f'<rect x="52" y="32" width="5" height="26" rx="{r}" fill="{leg}"/>'
            f'<rect x="17" y="26" width="4" height="22" rx="{r}" fill="{edge}"/>'
            f'<rect x="43" y="26" width="4" height="22" rx="{r}" fill="{edge}"/>'
            f'<path d="M14 18h36l11 16H3z" fill="{top}"/><path d="M3 34h58v4H3z" fill="{edge}"/>'
            f'<ellipse cx="24" cy="26" rx="6" ry="3" fill="{cloth}"/>'
            f'<ellipse cx="41" cy="26" rx="6" ry="3" fill="{cloth}"/>'
        )
    else:  # round, one foot, with a cloth
        body = (
            f'<rect x="29" y="34" width="6" height="20" fill="{leg}"/>'
            f'<path d="M18 58q14-9 28 0z" fill="{edge}"/>'
            f'<path d="M3 27q4 14 11 9t11 3 12-1 12-1 12-10z" fill="{cloth}"/>'
            f'<ellipse cx="32" cy="26" rx="29" ry="8" fill="{top}"/>'
            f'<ellipse cx="32" cy="24" rx="9" ry="3" fill="{cloth}"/>'
        )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{body}</svg>'


def _icon_svg(collection: dict[str, Any], name: str) -> str | None:
    """The SVG text of one Iconify icon, its alias resolved; None where the set has none."""
    name = collection.get("aliases", {}).get(name, {}).get("parent", name)
    icon = collection["icons"].get(name)
    if icon is None:
        return None
    width = icon.get("width", collection.get("width", 16))
    height = icon.get("height", collection.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">'
        f"{icon['body']}</svg>"
    )


def _rasterise(svg: str) -> Image.Image:
    import resvg_py

    data = resvg_py.svg_to_bytes(svg_string=svg, width=2 * CELL, height=2 * CELL)
    image = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    box = image.getbbox()
    if box is None:
        raise ValueError("an icon came out empty")
    image = image.crop(box)  # the same margin (none) in every set
    image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(image, ((CELL - image.width) // 2, (CELL - image.height) // 2))
    return cell


def build(sources: Path, folder: Path = FOLDER) -> None:
    """Rasterise every icon of the world into one lossless WebP atlas a style and an index."""
    index: dict[str, dict[str, list[int]]] = {}
    for style in STYLES:
        collection = json.loads((sources / style / "icons.json").read_text(encoding="utf-8"))
        cells: list[Image.Image] = []
        index[style] = {}
        for thing in THINGS:
            for name in thing.icons:
                if name.startswith("drawn-"):
                    svg: str | None = _table_svg(style, int(name[-1]))
                else:
                    svg = _icon_svg(collection, name)
                if svg is not None:
                    index[style].setdefault(thing.name, []).append(len(cells))
                    cells.append(_rasterise(svg))
        rows = -(-len(cells) // COLUMNS)
        atlas = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
        for i, cell in enumerate(cells):
            atlas.paste(cell, (i % COLUMNS * CELL, i // COLUMNS * CELL))
        with atomic_path(folder / f"{style}.webp") as path:
            atlas.save(path, lossless=True, exact=True, method=6)
    write_text(folder / "index.json", json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
