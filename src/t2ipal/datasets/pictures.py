"""Image files: found by files, folders and patterns, and read as RGB."""

from __future__ import annotations

import glob
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from t2ipal.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

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


def load_image(path: str | Path, data: bytes | None = None) -> Image.Image:
    """Read an image file as RGB, upright: a camera's orientation mark is applied.

    Args:
        path: the file, or what to call ``data`` in a message.
        data: the file's bytes, where they are at hand.

    Raises:
        UserError: the file is missing, no image, truncated or of absurd size; it is named.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # Pillow only warns of an image that would fill the memory when unpacked.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path if data is None else io.BytesIO(data)) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: image not found; check the path.") from None
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error and more.
        reason = str(error).replace(str(path), "").strip(" '\"") or type(error).__name__
        raise UserError(
            f"{path}: cannot be read as an image ({reason}); repair or remove it."
        ) from None
