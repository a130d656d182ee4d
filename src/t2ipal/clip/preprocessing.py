"""From a picture to pixels: size, crop, interpolation and normalisation, and their digest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from t2ipal.errors import UserError
from t2ipal.files import sha256_text

Transform = Callable[[Image.Image], Tensor]
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_CLIP_DEFAULTS = {
    "resample": 3,
    "size": {"shortest_edge": 224},
    "crop_size": 224,
    "do_center_crop": True,
    "image_mean": OPENAI_DATASET_MEAN,
    "image_std": OPENAI_DATASET_STD,
}
_SIGLIP_DEFAULTS = {
    "resample": 3,
    "size": {"height": 224, "width": 224},
    "crop_size": None,
    "do_center_crop": False,
    "image_mean": (0.5,) * 3,
    "image_std": (0.5,) * 3,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip": _CLIP_DEFAULTS,
    "metaclip_2": _CLIP_DEFAULTS,
    "chinese_clip": _CLIP_DEFAULTS,
    "siglip": _SIGLIP_DEFAULTS,
    "siglip2": _SIGLIP_DEFAULTS | {"resample": 2, "patch_size": 16, "max_num_patches": 256},
}
_PROBES = ((64, 64), (96, 64), (50, 80))


@dataclass
class _TransformersCfg(PreprocessCfg):  # type: ignore[misc]  # which mypy does not see
    """What open_clip says of preprocessing, and what transformers does in another way.

    The shortest edge may be made longer than the square that is then cut out, and where an odd
    number of pixels is cut off, the odd one is cut off at the right or at the bottom.
    """

    shortest_edge: int = 224


class _Crop(torch.nn.Module):
    """The square of ``side`` pixels in the middle, as transformers cuts it out."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, image: Image.Image) -> Image.Image:
        left, top = ((length - self.side) // 2 for length in image.size)
        return image.crop((left, top, left + self.side, top + self.side))


@dataclass(frozen=True)
class Preprocessing:
    """How images become pixels.

    Attributes:
        transform: an image to float32 [3, S, S].
        side: S.
        resize_mode: how it becomes a square: ``shortest``, ``squash`` or ``longest``.
        digest: 16 hex digits of all that decides the pixels.
        described: what open_clip's ``PreprocessCfg`` says, and of models of transformers
            ``shortest_edge``, to which images are resized before the square is cut out; None for
            a function of the user's.
    """

    transform: Transform
    side: int
    resize_mode: str
    digest: str
    described: dict[str, Any] | None = None

    @classmethod
    def of(cls, described: dict[str, Any], side: int | None, mode: str | None) -> Preprocessing:
        """That of open_clip's or :func:`of_transformers`' description, at another size or mode.

        Raises:
            UserError: it gives no squares.
        """
        kind = _TransformersCfg if "shortest_edge" in described else PreprocessCfg
        cfg = kind(**described)
        old = _square(cfg.size)
        side = old if side is None else side
        cfg = replace(cfg, size=(side, side), mean=tuple(cfg.mean), std=tuple(cfg.std))
        if mode is not None:
            cfg = replace(cfg, resize_mode=mode)
        if isinstance(cfg, _TransformersCfg):
            cfg = replace(cfg, shortest_edge=round(cfg.shortest_edge * side / old))
        transform = image_transform_v2(cfg, is_train=False)
        if isinstance(cfg, _TransformersCfg) and cfg.resize_mode == "shortest":
            interpolation = InterpolationMode(cfg.interpolation)
            resize, crop, *rest = transform.transforms
            assert isinstance(resize, Resize) and isinstance(crop, CenterCrop)
            transform.transforms = [Resize(cfg.shortest_edge, interpolation), _Crop(side), *rest]
        described = asdict(cfg)
        digest = sha256_text(json.dumps(described, sort_keys=True))[:16]
        return cls(transform, side, cfg.resize_mode, digest, described)

    @classmethod
    def by(cls, transform: Transform, resize_mode: str) -> Preprocessing:
        """That of a user's own function, known by what it makes of a few pictures.

        Raises:
            UserError: it does not make float32 [3, S, S].
        """
        made = [transform(_picture(*size)) for size in _PROBES]
        for pixels in made:
            if not (
                isinstance(pixels, Tensor)
                and pixels.dtype == torch.float32
                and pixels.shape == (3, *made[0].shape[1:2] * 2)
            ):
                what = (
                    f"{pixels.dtype} {tuple(pixels.shape)}"
                    if isinstance(pixels, Tensor)
                    else type(pixels).__name__
                )
                raise UserError(
                    f"preprocess must turn a PIL image into a float32 tensor [3, S, S], not "
                    f"{what}; give the transform that evaluates the model, not the one it was "
                    "trained with."
                )
        digest = sha256_text(*(str((1e3 * pixels).round().int().tolist()) for pixels in made))[:16]
        return cls(transform, made[0].shape[1], resize_mode, digest)


def of_transformers(settings: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
    """What :meth:`Preprocessing.of` takes, from the settings of an image processor of transformers.

    Pixels equal those of the processor's ``pil`` backend; the ``torchvision`` one resizes with
    other rounding, by a level of 255 here and there.

    Args:
        settings: the object in ``preprocessor_config.json``.
        kind: the model's ``model_type``, which decides what is left out there. One that takes
            images of any aspect ratio (``siglip2``) is given squares.
        where: the file, for messages.

    Raises:
        UserError: it does what cannot be done here.
    """

    def refuse(what: str) -> UserError:
        return UserError(
            f"{where}: {what}, which is not supported; images must be resized (bilinear or "
            "bicubic), perhaps cropped to a square, and divided by 255."
        )

    given = _DEFAULTS[kind] | {key: value for key, value in settings.items() if value is not None}
    interpolation = _INTERPOLATIONS.get(given["resample"])
    if interpolation is None:
        raise refuse(f"resample is {given['resample']!r}")
    if not given.get("do_resize", True):
        raise refuse("do_resize is false")
    factor = given.get("rescale_factor", 1 / 255)
    if not given.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
        raise refuse("values are not divided by 255")
    size, crop = given["size"], given["crop_size"] if given["do_center_crop"] else None
    if kind == "siglip2":
        size = int(given["patch_size"] * given["max_num_patches"] ** 0.5)
    edge, cropped = _side_of(size), _side_of(crop)
    squashed = "height" in size if isinstance(size, dict) else not given["do_center_crop"]
    if edge is not None and squashed and (crop is None or cropped == edge):
        described: dict[str, Any] = {"resize_mode": "squash", "size": edge}
    elif edge is not None and not squashed and cropped is not None and cropped <= edge:
        described = {"resize_mode": "shortest", "size": cropped}
    else:
        raise refuse(f"size {size!r} with crop_size {crop!r} gives no squares")
    normalised = given.get("do_normalize", True)
    return described | {
        "shortest_edge": edge,
        "interpolation": interpolation,
        "mean": tuple(given["image_mean"]) if normalised else (0.0,) * 3,
        "std": tuple(given["image_std"]) if normalised else (1.0,) * 3,
    }


def _side_of(size: Any) -> int | None:
    """Pixels of ``224``, ``{"shortest_edge": 224}`` or ``{"height": 224, "width": 224}``."""
    values = set(size.values()) if isinstance(size, dict) else {size}
    keys = set(size) if isinstance(size, dict) else set()
    known = keys in (set(), {"shortest_edge"}, {"height", "width"})
    side = values.pop() if known and len(values) == 1 else None
    return side if isinstance(side, int) and side > 0 else None


def _square(size: int | Sequence[int]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UserError(
            f"this model takes images of {height} x {width} pixels; only square ones are supported."
        )
    return height


def _picture(width: int, height: int) -> Image.Image:
    """A smooth picture in which no place looks like another."""
    x, y = torch.arange(width)[None, :], torch.arange(height)[:, None]
    channels = [255 * x // width + 0 * y, 255 * y // height + 0 * x, (x * y) // 32 % 256]
    return Image.fromarray(torch.stack(channels, dim=-1).to(torch.uint8).numpy())
