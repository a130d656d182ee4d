"""A class heatmap laid over its image: warm where the class is found, grey elsewhere."""

from __future__ import annotations

import numpy as np
from PIL import Image

# Heat in [0, 1] -> colour: yellow, orange, red, as black-body maps order them.
_STOPS = np.array([0.0, 0.35, 0.7, 1.0])
_COLOURS = np.array([[255, 236, 150], [253, 174, 60], [240, 80, 30], [205, 10, 30]], dtype=float)
_GREY = 0.6  # how much colour a cold place loses, so that only heat is colourful
_STRENGTH = 0.66  # opacity of full heat
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _heat_colours(values: np.ndarray) -> np.ndarray:
    """Heat [...] in [0, 1] -> RGB [..., 3] float in [0, 255]."""
    return np.stack([np.interp(values, _STOPS, _COLOURS[:, k]) for k in range(3)], axis=-1)


def heat_overlay(
    image: Image.Image,
    heat: np.ndarray,
    *,
    low: float | None = None,
    high: float | None = None,
    seen: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    """Lay ``heat`` [h, w] over ``image``; RGB of the image's size.

    Values from ``low`` (default: the least) to ``high`` (default: the greatest) go from clear to
    red. Give both to compare several heatmaps on one scale. A heatmap without any contrast is cold
    all over.

    Args:
        seen: left, top, right and bottom of the part of the image that the heat is about, in
            pixels; the rest is cold. All of the image if omitted; it may reach beyond the image.

    Raises:
        ValueError: ``heat`` is not [h, w], is empty or holds a value that is not finite.
    """
    heat = np.asarray(heat, dtype=np.float32)
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"a heatmap is [h, w], not {heat.shape}")
    if not np.isfinite(heat).all():
        raise ValueError("a heatmap must hold finite numbers")
    low = float(heat.min()) if low is None else low
    high = float(heat.max()) if high is None else high
    scaled = np.clip((heat - low) / (high - low), 0, 1) if high > low else np.zeros_like(heat)
    left, top, right, bottom = seen or (0, 0, *image.size)
    smooth = Image.new("F", image.size)
    part = Image.fromarray(scaled).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    smooth.paste(part, (left, top))
    values = np.clip(np.asarray(smooth, dtype=float), 0, 1)  # [H, W]; bicubic overshoots
    base = np.asarray(image.convert("RGB"), dtype=float)  # [H, W, 3]
    grey = (base @ _LUMA)[..., None]
    cold = base + _GREY * (1 - values[..., None]) * (grey - base)
    opacity = _STRENGTH * (values * values * (3 - 2 * values))[..., None]  # smooth step
    mixed = cold + opacity * (_heat_colours(values) - cold)
    return Image.fromarray(np.round(mixed).astype(np.uint8))
