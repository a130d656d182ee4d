"""Contact sheets: many images with a caption under each, as one picture."""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from t2ipal.files import write_bytes
from t2ipal.files.pictures import load_image
from t2ipal.generation.store import ImageRow, ImageStore
from t2ipal.generation.summary import Tally

_PAPER, _INK, _FAINT = (250, 250, 248), (34, 34, 38), (228, 228, 224)
_MARGIN, _GUTTER = 24, 16  # pixels
_TEXT_LINES = 3  # most lines of a caption
_DOUBTFUL, _PAIRS = 60, 20  # most doubtful images, and near-duplicates, that are shown


def _contact_sheet(
    items: Sequence[tuple[Image.Image, str]],
    *,
    columns: int = 6,
    cell: int = 176,
    title: str = "",
) -> Image.Image:
    """Lay out (image, caption) pairs in rows, left to right.

    Images keep their shape and are scaled into squares of ``cell`` pixels.
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


def write_inspected(folder: Path) -> Path | None:
    """Write ``inspected.png`` into the folder of a generated set; None if nothing is doubtful.

    The rejected attempts at each doubtful image come first, then the kept one; then follow the
    near-duplicates, each behind the image that it repeats.
    """
    sheet = folder / "inspected.png"
    rows, tally = ImageStore(folder).rows(), Tally()
    doubtful, marked = list[ImageRow](), array("q")
    for position, row in enumerate(rows):
        tally.add(row)
        if row.fingerprint:
            marked.append(position)
        if row.missing or row.added or any(entry.file for entry in row.rejected):
            doubtful.append(row)
    pairs = tally.near()
    if not doubtful and not pairs:
        return None
    # Those with most retries first: they are what the sheet is for.
    doubtful.sort(key=lambda row: -sum(bool(entry.file) for entry in row.rejected))
    items: list[tuple[Image.Image, str]] = []
    for row in doubtful:
        items += _attempts(folder, row)
        if len(items) >= _DOUBTFUL:
            break
    items = items[:_DOUBTFUL]
    for first, again in pairs[:_PAIRS]:
        for at, what in ((first, "first"), (again, "NEARLY THE SAME")):
            row = rows[marked[at]]
            items.append((load_image(folder / row.file), f"{what}: {', '.join(row.labels)}"))
    write_contact_sheet(
        sheet,
        items,
        columns=10,
        title=f"{len(doubtful)} captions with a doubtful image; - not found, + found unasked; "
        f"{len(pairs)} near-duplicates",
    )
    return sheet


def _attempts(folder: Path, row: ImageRow) -> Iterator[tuple[Image.Image, str]]:
    names = ", ".join(row.labels)
    for entry in row.rejected:
        if entry.file:
            yield load_image(folder / entry.file), f"REJECTED, not seen: {names}"
    if not row.failed:
        doubts = [*(f"-{name}" for name in row.missing), *(f"+{name}" for name in row.added)]
        seen = ", ".join(row.seen)
        yield load_image(folder / row.file), f"kept: {seen} {' '.join(doubts)}"


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
    for word in text.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
            lines.append("")
        rest = f"{lines[-1]} {word}".strip()
        while len(rest) > 1 and font.getlength(rest) > width:
            keep = len(rest) - 1
            while keep > 1 and font.getlength(rest[:keep]) > width:
                keep -= 1
            lines[-1:] = [rest[:keep], ""]
            rest = rest[keep:]
        lines[-1] = rest
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(last + "...") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last.rstrip() + "..."]
    return lines
