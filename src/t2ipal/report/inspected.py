"""The contact sheet of doubtful images: rejected beside kept, near-duplicates side by side."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from t2ipal.files.pictures import load_image
from t2ipal.generation.store import ImageRow, ImageStore
from t2ipal.generation.summary import Tally
from t2ipal.report.contact import write_contact_sheet

_SHEET = "inspected.png"
_MOST = 60  # doubtful images on a sheet
_MOST_PAIRS = 20


def write_inspected(folder: Path) -> Path | None:
    """Write ``inspected.png`` into the folder of a generated set; None if nothing is doubtful.

    The rejected attempts at each doubtful image come first, then the kept one; then follow the
    near-duplicates, each behind the image that it repeats.
    """
    stored, tally = ImageStore(folder).rows(), Tally()
    doubtful, marked = list[ImageRow](), array("q")
    for position, row in enumerate(stored):
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
        if len(items) >= _MOST:
            break
    items = items[:_MOST]
    for first, again in pairs[:_MOST_PAIRS]:
        for at, what in ((first, "first"), (again, "NEARLY THE SAME")):
            row = stored[marked[at]]
            items.append((load_image(folder / row.file), f"{what}: {', '.join(row.labels)}"))
    write_contact_sheet(
        folder / _SHEET,
        items,
        columns=10,
        title=f"{len(doubtful)} captions with a doubtful image; - not found, + found unasked; "
        f"{len(pairs)} near-duplicates",
    )
    return folder / _SHEET


def _attempts(folder: Path, row: ImageRow) -> Iterator[tuple[Image.Image, str]]:
    names = ", ".join(row.labels)
    for entry in row.rejected:
        if entry.file:
            yield load_image(folder / entry.file), f"REJECTED, not seen: {names}"
    if not row.failed:
        doubts = [*(f"-{name}" for name in row.missing), *(f"+{name}" for name in row.added)]
        seen = ", ".join(row.seen)
        yield load_image(folder / row.file), f"kept: {seen} {' '.join(doubts)}"
