"""Image files as RGB images, or one clear sentence about the file that is none."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from t2ipal.errors import UserError


def load_image(path: str | Path, data: bytes | None = None) -> Image.Image:
    """Read an image file as RGB, upright: a camera's orientation mark is applied.

    Args:
        path: the file, or what to call ``data`` in a message.
        data: the file's bytes, where they are at hand.

    Raises:
        UserError: the file is missing, no image, truncated or of absurd size; it is named.
    """
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
