"""The image files that a user names: files, folders and glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from t2ipal.errors import UserError

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def find_images(paths: tuple[str, ...]) -> Iterator[Path]:
    """The image files that paths, folders and glob patterns name, folders in sorted order.

    A file that is named outright is taken whatever its suffix.

    Raises:
        UserError: a path that does not exist and a pattern that matches nothing.
    """
    for text in paths:
        path = Path(text)
        if path.is_dir():
            for folder, inner, files in os.walk(path):
                inner.sort()
                for file in sorted(files):
                    if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                        yield Path(folder, file)
        elif path.exists():
            yield path
        else:
            found = sorted(glob.glob(text, recursive=True))
            if not found:
                raise UserError(f"{text}: no such file or folder, and no file matches it.")
            yield from (Path(file) for file in found if Path(file).is_file())
