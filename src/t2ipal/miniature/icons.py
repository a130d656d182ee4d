"""The icons that scenes are drawn with, in packaged atlases.

Sources, all openly licensed (see NOTICE): Twemoji (CC BY 4.0), Noto Emoji and Noto Emoji v1
(Apache-2.0), EmojiOne 2 (CC BY 4.0), Fluent Emoji flat (MIT). The Fluent style is held out: only
test scenes use it. ``tools/miniature/icons.py`` rebuilds the atlases.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from PIL import Image

KNOWN_STYLES = ("twemoji", "noto", "noto-v1", "emojione")
HELD_OUT_STYLE = "fluent-emoji-flat"
STYLES = (*KNOWN_STYLES, HELD_OUT_STYLE)
STYLES_OF = {
    "known": KNOWN_STYLES,
    "plain": ("noto",),
    "test": STYLES,
    "dev": STYLES,
    "style": (HELD_OUT_STYLE,),
    "hard": (HELD_OUT_STYLE,),
}
CELL = 64  # pixels per icon
COLUMNS = 16
FOLDER = Path(__file__).parent / "icons"


@cache
def load(style: str) -> dict[str, list[Image.Image]]:
    """Class name -> its icons [64 x 64 RGBA] in one style; styles lack a few classes."""
    index = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))[style]
    atlas = Image.open(FOLDER / f"{style}.webp").convert("RGBA")
    icons: dict[str, list[Image.Image]] = {}
    for name, cells in index.items():
        corners = [(i % COLUMNS * CELL, i // COLUMNS * CELL) for i in cells]
        icons[name] = [atlas.crop((x, y, x + CELL, y + CELL)) for x, y in corners]
    return icons
