"""What people hand to a tagger: images of every kind, and names that are to become classes.

Loads no PyTorch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.files.names import name_key
from t2ipal.files.pictures import load_image
from t2ipal.files.rgb import to_rgb
from t2ipal.vocabulary import ClassName, Vocabulary

ImageLike = Any
"""A file (str or Path), its bytes, a PIL image, an array [H, W], [H, W, 3] or [H, W, 4] of uint8,
or of floats in [0, 1], or a tensor [3, H, W] of the same."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def one_image(images: Any) -> bool:
    """Whether this is one image, not several.

    Raises:
        UserError: it is neither.
    """
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return True
    if (array := _array(images)) is not None:
        return array.ndim < 4
    if isinstance(images, Iterable):
        return False
    raise UserError(
        f"an object of type {type(images).__name__} is no image; give a file, its bytes, a PIL "
        "image, an array, a tensor, or several of these."
    )


def open_image(image: ImageLike, max_megapixels: float) -> Image.Image:
    """An image as upright RGB, 8 bits a channel.

    Raises:
        UserError: it cannot be read, or is no image.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return load_image("an image in memory", bytes(image), max_megapixels=max_megapixels)
    if isinstance(image, (str, os.PathLike)):
        refuse_address(os.fspath(image))
        if os.path.isdir(image):
            raise UserError(f"{image}: is a folder; give its images, as Path.glob('*.jpg') does.")
        return load_image(Path(image), max_megapixels=max_megapixels)
    if (array := _array(image)) is not None:
        return _from_array(array, channels_first=hasattr(image, "detach"))
    one_image(image)
    raise UserError(f"an object of type {type(image).__name__} among the images is no image.")


def refuse_address(text: str | bytes) -> None:
    """Refuse what has to be downloaded first.

    Raises:
        UserError: it is an address such as https://...
    """
    if isinstance(text, str) and _ADDRESS.match(text):
        raise UserError(f"{text}: is an address; download it and give the file.")


def queried(texts: Iterable[str]) -> list[ClassName]:
    """Free texts as classes; an article is no part of what prompts say.

    Examples:
        >>> queried(["a red bicycle"])[0].readable
        'red bicycle'
    """
    return [ClassName(text, re.sub("^(?:an?|the) (?=.)", "", text, flags=re.I)) for text in texts]


def with_new(vocabulary: Vocabulary, classes: Iterable[ClassName]) -> Vocabulary:
    """The vocabulary and further classes.

    Raises:
        UserError: a name or synonym of one names a class that is there, in some spelling.
    """
    for one in classes:
        known: dict[str, str] = {}
        for there in vocabulary.classes:
            for word in (*there.phrases, *there.ambiguous, there.readable):
                known.setdefault(name_key(word), there.name)
        for word in (one.name, one.readable, *one.synonyms):
            if found := known.keys() & _numbers(name_key(word)):
                raise UserError(
                    f"{word!r} names the class {known[found.pop()]!r} already; leave it out, or "
                    "choose another word."
                )
        vocabulary = Vocabulary(vocabulary.title, (*vocabulary.classes, one))
    return vocabulary


def _array(image: Any) -> np.ndarray | None:
    """An array, or a tensor as one; None for anything else."""
    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    return image if isinstance(image, np.ndarray) else None


def _from_array(array: np.ndarray, channels_first: bool) -> Image.Image:
    kind = "a tensor" if channels_first else "an array"
    wanted = "[3, H, W]" if channels_first else "[H, W, 3]"
    shape = list(array.shape)
    if channels_first and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not array.size or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise UserError(f"{kind} of shape {shape} is no image; give {wanted}.")
    if array.dtype == bool:
        array = array.astype(np.float32)
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UserError(
                f"{kind} of floats must hold pixels from 0 to 1, before any normalisation."
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"{kind} of {array.dtype} is no image; give uint8, or floats from 0 to 1.")
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _numbers(key: str) -> set[str]:
    """A word, and what may be its singular or plural: loading a dictionary would take seconds."""
    singular = re.sub("ies$", "y", key), re.sub("es$", "", key), re.sub("s$", "", key)
    return {key, *singular, re.sub("y$", "ies", key), f"{key}es", f"{key}s"}
