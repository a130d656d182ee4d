"""What a picture shows, however it is stored: upright RGB, 8 bits a channel.

A camera's orientation mark is applied, 16-bit and floating-point grey are scaled to what an 8-bit
copy shows, and transparent parts show the background (white).
"""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image, ImageOps

log = logging.getLogger(__name__)

BACKGROUND = (255, 255, 255)
"""What shows through transparent parts of a picture."""


def to_rgb(image: Image.Image, name: str = "an image") -> Image.Image:
    """An opened PIL image as upright RGB, 8 bits a channel; the current frame of an animation.

    Args:
        name: what to call it in a warning.
    """
    return _eight_bit(_upright(image, name))


def _upright(image: Image.Image, name: str) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # broken EXIF raises almost anything
        log.warning("%s: broken metadata ignored (%s)", name, error or type(error).__name__)
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return Image.fromarray(_grey(np.asarray(image), image.mode)).convert("RGB")
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        assert converted is not None, "it returns an image unless told to work in place"
        return converted
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        if image.mode in ("RGBa", "La"):
            image = image.convert(image.mode.upper())
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey levels of more than 8 bits as uint8: what an 8-bit copy of the picture shows.

    16-bit levels are divided by 257. Of integers of 32 bits and of floating-point numbers the
    range tells the scale: up to 1 (floating-point alone), 255, 65,535 or 2**32 - 1.
    """
    levels = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    highest = levels.max(initial=0.0)
    scale = 257.0
    if mode == "F" and highest <= 1:
        scale = 1 / 255
    elif mode in ("F", "I") and highest <= 255:
        scale = 1.0
    elif highest > 65535:
        scale = (2**32 - 1) / 255
    return np.clip(np.rint(levels / scale), 0, 255).astype(np.uint8)
