"""Broken samples: refused with a sentence that names ``--skip-broken``, or left out and listed.

One :class:`Broken` goes with a job through all that reads its images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from t2ipal.errors import Positive, UserError, listed, settings
from t2ipal.files import write_jsonl

BROKEN_FILE = "broken.jsonl"
MAX_MEGAPIXELS = 300.0
"""Larger pictures are refused, unless they are JPEG files, which can be decoded at reduced size."""

_REMEDY = "leave out what is broken with --skip-broken"


@settings
class PictureSettings:
    """Which pictures are read."""

    max_megapixels: Positive = MAX_MEGAPIXELS
    """refuse larger pictures; JPEG is read at any size"""


@settings
class ReadingSettings(PictureSettings):
    """What is done about pictures that cannot be read."""

    skip_broken: bool = False
    """leave out images that cannot be read, list them in broken.jsonl, and go on"""


class Broken:
    """Samples that cannot be read.

    Args:
        skip: leave them out and go on; if not, the first one is an error.
        max_megapixels: larger pictures are among them (:func:`load_image`).

    Attributes:
        reasons: what was left out, by the name of its file -> why.
    """

    def __init__(self, skip: bool = False, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        self.skip = skip
        self.max_megapixels = max_megapixels
        self.reasons: dict[str, str] = {}

    @classmethod
    def of(cls, settings: ReadingSettings) -> Broken:
        """None yet; what is done about them is as the settings say."""
        return cls(settings.skip_broken, settings.max_megapixels)

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, name: str | Path, error: UserError) -> None:
        """Leave a sample out, or raise the error with a word about ``--skip-broken``."""
        if not self.skip:
            raise UserError(f"{str(error).rstrip('.')}, or {_REMEDY}.") from None
        self.reasons[str(name)] = str(error).removeprefix(f"{name}: ")

    def check(self, files: Sequence[Path], source: str) -> list[int]:
        """Positions of the files that are pictures as far as their headers tell.

        Hardly anything is decoded: ten thousand files take seconds. What is missing, empty, a
        folder, a pipe, no picture, too large, or cut off is found; damage inside shows later.

        Args:
            source: what the message calls the files together.

        Raises:
            UserError: one message for all of the broken files, unless they are skipped; or all are
                broken.
        """
        from t2ipal.files.pictures import why_unreadable  # imports Pillow

        found = why_unreadable(files, max_megapixels=self.max_megapixels)
        first = next(iter(found), None)
        if first is not None and (not self.skip or len(found) == len(files)):
            names = listed([str(files[row]) for row in found], most=3)
            which, them = ("", "it") if len(found) == 1 else ("the first ", "them")
            reason = found[first].partition(";")[0].rstrip(".")
            remedy = "check the data" if self.skip else f"repair or remove {them}, or {_REMEDY}"
            raise UserError(
                f"{source}: {len(found)} of {len(files)} images cannot be read: {names} "
                f"({which}{reason}); {remedy}."
            )
        for row, why in found.items():
            self.reasons[str(files[row])] = why
        return [row for row in range(len(files)) if row not in found]

    def write(self, folder: Path) -> list[str]:
        """List what was left out in ``broken.jsonl`` there; what to say of it, a line or none."""
        path = folder / BROKEN_FILE
        if not self.reasons:
            if self.skip:
                path.unlink(missing_ok=True)
            return []
        write_jsonl(path, ({"file": name, "reason": why} for name, why in self.reasons.items()))
        images = f"{len(self)} image{'s' * (len(self) != 1)}"
        return [f"left out: {images} that cannot be read, listed in {path}"]
