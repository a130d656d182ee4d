"""The contact sheet of an inspected set: what was thrown away beside what was kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from t2ipal.clip.pictures import load_image
from t2ipal.report.contact import write_contact_sheet
from t2ipal.synthesis.store import ImageRow, ImageStore

SHEET = "inspected.png"
MOST = 60  # images on a sheet


def write_inspected(folder: Path) -> Path | None:
    """Write ``inspected.png`` into the folder of a generated set; None if nothing is doubtful.

    Of each drawing with a doubt its rejected attempts come first, then the kept one.
    """
    doubtful = [
        row
        for row in ImageStore(folder).rows().values()
        if row.missing or row.added or any(entry.file for entry in row.rejected)
    ]
    if not doubtful:
        return None
    # Those that were drawn again first: that is what the sheet is for.
    doubtful.sort(key=lambda row: -sum(bool(entry.file) for entry in row.rejected))
    items: list[tuple[Image.Image, str]] = []
    for row in doubtful:
        items += _attempts(folder, row)
        if len(items) >= MOST:
            break
    write_contact_sheet(
        folder / SHEET,
        items[:MOST],
        columns=10,
        title=f"{len(doubtful)} captions with a doubtful drawing; - not seen, + seen unasked",
    )
    return folder / SHEET


def _attempts(folder: Path, row: ImageRow) -> Iterator[tuple[Image.Image, str]]:
    names = ", ".join(row.labels)
    for entry in row.rejected:
        if entry.file:
            yield load_image(folder / entry.file), f"THROWN AWAY, unseen: {names}"
    if not row.failed:
        doubts = [*(f"-{name}" for name in row.missing), *(f"+{name}" for name in row.added)]
        seen = ", ".join(row.seen)
        yield load_image(folder / row.file), f"kept: {seen} {' '.join(doubts)}"
