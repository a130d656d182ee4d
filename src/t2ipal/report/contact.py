"""A contact sheet: many images with a caption under each, as one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from t2ipal.files import write_bytes

_PAPER, _INK, _FAINT = (250, 250, 248), (34, 34, 38), (228, 228, 224)
_MARGIN, _GUTTER = 24, 16  # pixels
_TEXT_LINES = 3  # most lines of a caption


def _contact_sheet(
    items: Sequence[tuple[Image.Image, str]],
    *,
    columns: int = 6,
    cell: int = 176,
    title: str = "",
) -> Image.Image:
    """Lay out (image, caption) pairs in rows, left to right.

    Args:
        items: at least one pair; images keep their shape and are scaled into the cell.
        columns: most images in a row.
        cell: edge of an image's square in pixels.
        title: a line above the images.

    Raises:
        ValueError: no items, or columns or cell too small.
    """
    if not items:
        raise ValueError("a contact sheet needs at least one image")
    if columns < 1 or cell < 32:
        raise ValueError(f"columns {columns} and cell {cell} must be at least 1 and 32")
    columns = min(columns, len(items))
    text_size, title_size = max(11, cell // 13), max(14, cell // 8)  # pixels
    font, heading = ImageFont.load_default(text_size), ImageFont.load_default(title_size)
    line = math.ceil(1.3 * text_size)
    captions = [_wrap(text, font, cell, _TEXT_LINES) for _, text in items]
    top = _MARGIN + (math.ceil(1.8 * title_size) if title else 0)
    starts = range(0, len(items), columns)
    rows = [range(start, min(start + columns, len(items))) for start in starts]
    heights = [cell + 6 + line * max(len(captions[i]) for i in row) + _GUTTER for row in rows]
    width = 2 * _MARGIN + columns * cell + (columns - 1) * _GUTTER
    sheet = Image.new("RGB", (width, top + sum(heights) - _GUTTER + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        text = _wrap(title, heading, width - 2 * _MARGIN, 1)[0]
        draw.text((_MARGIN, _MARGIN - 4), text, _INK, heading)
    y = top
    for row, height in zip(rows, heights, strict=True):
        for place, i in enumerate(row):
            x = _MARGIN + place * (cell + _GUTTER)
            picture = _fit(items[i][0], cell)
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), _FAINT)
            sheet.paste(
                picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2)
            )
            for number, text in enumerate(captions[i]):
                draw.text((x, y + cell + 6 + number * line), text, _INK, font)
        y += height
    return sheet


def write_contact_sheet(
    path: str | Path, items: Sequence[tuple[Image.Image, str]], *, columns: int = 6, title: str = ""
) -> None:
    """Write :func:`_contact_sheet` as a PNG, whole or not at all."""
    content = io.BytesIO()
    _contact_sheet(items, columns=columns, title=title).save(content, format="PNG")
    write_bytes(path, content.getvalue())


def _fit(image: Image.Image, edge: int) -> Image.Image:
    """Scale an image up or down, shape kept, until its longer side is ``edge`` pixels; RGB."""
    scale = edge / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _wrap(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int
) -> list[str]:
    """Break ``text`` into at most ``most`` lines no wider than ``width`` pixels.

    Words too long for a line are cut; an ellipsis ends a text that does not fit.
    """
    lines = [""]
    words = text.split()
    while words:
        word = words.pop(0)
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
        elif lines[-1]:
            lines.append("")
            words.insert(0, word)
        else:
            keep = max(1, _fitting(word, font, width))
            lines[-1] = word[:keep]
            if word[keep:]:
                words.insert(0, word[keep:])
                lines.append("")
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(last + "...") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last.rstrip() + "..."]
    return lines


def _fitting(word: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> int:
    """How many first letters of ``word`` fit in ``width`` pixels."""
    count = len(word)
    while count and font.getlength(word[:count]) > width:
        count -= 1
    return count
