"""One reader of pictures: files and bytes of any format become upright 8-bit RGB.

Of an animation the first frame is taken. Pixels that can be read are used even if metadata are
broken or the end of the file is missing; a warning then names the file.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from t2ipal.errors import UserError
from t2ipal.files.broken import MAX_MEGAPIXELS
from t2ipal.files.rgb import to_rgb
from t2ipal.files.tables import refuse_special

log = logging.getLogger(__name__)

MAX_ASPECT = 100
"""A picture this many times as wide as high, or more, shows nothing at a CLIP's input size."""

_HALF_READ = 0.5  # of a cut file, at least this share must be there
_LARGE = 16_000_000  # pixels from which a picture is reduced when it is decoded ...
_REDUCED_SIDE = 2048  # ... to at least this many on its shorter side: CLIPs take 224 to 448

# Raster formats that hold pictures. Of Pillow's others some call programs (EPS), some are pages
# (PDF), stubs (HDF5, GRIB) or palettes.
_FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "HEIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MPO", "PCX",
    "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP",
)  # fmt: skip
_HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\x00", b"MM\x00*", b"qoif")
_RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".raf",
     ".raw", ".rw2", ".srw", ".x3f"}
)  # fmt: skip
_OTHER_SUFFIXES = {
    ".svg": "vector graphics", ".eps": "vector graphics", ".ai": "vector graphics",
    ".pdf": "documents", ".jxl": "no reader for JPEG XL",
}  # fmt: skip

# Pillow says some of what it finds through warnings and logs; our own sentences name the file.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.ERROR)


def load_image(
    path: str | Path, data: bytes | None = None, *, max_megapixels: float = MAX_MEGAPIXELS
) -> Image.Image:
    """Read a picture as upright RGB, 8 bits a channel.

    Args:
        path: the file, or what to call ``data`` in a message.
        data: the file's bytes, if they are at hand.
        max_megapixels: larger pictures are refused, to keep them from filling the memory. JPEG
            files of any size are decoded at reduced size.

    Raises:
        UserError: the file is missing, no picture, too large, or less than half of it is there.
    """
    with _telling(path, data):
        return _load(path, data, max_megapixels)


def why_unreadable(
    files: Sequence[Path], *, max_megapixels: float = MAX_MEGAPIXELS
) -> dict[int, str]:
    """Which files are no pictures as far as their headers tell: position -> why.

    Only a file without the end that its format prescribes is decoded.
    """
    _register_heif()
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda path: _header_fault(path, max_megapixels), files, chunksize=64)
        return {row: why for row, why in enumerate(found) if why is not None}


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture as it is looked at, upright, by its header.

    Raises:
        UserError: the file is missing, or no picture.
    """
    with _telling(path):
        refuse_special(path)
        with _open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = image.size
    return (height, width) if turned else (width, height)


def has_picture_suffix(name: str) -> bool:
    """Whether a file of this name is a picture that can be read here, as far as a name tells."""
    suffix = Path(name).suffix.lower()
    return suffix in _suffixes() or (suffix in _HEIF_SUFFIXES and _register_heif())


def is_picture(path: Path) -> bool:
    """Whether a file should be read as a picture: by its suffix, or else by its first bytes."""
    suffix = path.suffix.lower()
    if has_picture_suffix(path.name):
        return True
    if suffix in _HEIF_SUFFIXES or suffix in _RAW_SUFFIXES or suffix in _OTHER_SUFFIXES:
        return False
    return _looks_like_picture(path)


def why_left_out(path: Path) -> str | None:
    """Why a file that a person would call a picture is none here; None for other files."""
    suffix = path.suffix.lower()
    if suffix in _HEIF_SUFFIXES:
        return None if _register_heif() else f"{suffix} (pip install pillow-heif)"
    if suffix in _RAW_SUFFIXES:
        return f"{suffix} (camera raw; export as JPEG)"
    if suffix in _OTHER_SUFFIXES:
        return f"{suffix} ({_OTHER_SUFFIXES[suffix]})"
    return None


def _header_fault(path: Path, max_megapixels: float) -> str | None:
    try:
        with _telling(path):
            refuse_special(path)
            with _open(path) as image:
                _prepare(path, image, max_megapixels)
            if not _has_end(path, image.format):
                _load(path, None, max_megapixels)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


@contextmanager
def _telling(path: str | Path, data: bytes | None = None) -> Iterator[None]:
    """Whatever goes wrong while a picture is read becomes a sentence."""
    _register_heif()
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: image not found; check the path.") from None
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory; reduce the picture.") from None
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error and more.
        raise UserError(f"{path}: {_why(path, data, error)}") from None


def _has_end(path: Path, kind: str | None) -> bool:
    """Whether a file ends as its format prescribes; true of formats without an end mark."""
    if kind not in _ENDS:
        return True
    with path.open("rb") as stream:
        stream.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
        return _ENDS[kind] in stream.read()


_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b"\x00;"}
_TAIL = 2**16  # cameras write more behind the end


# --- reading ------------------------------------------------------------------------------------


def _load(path: str | Path, data: bytes | None, max_megapixels: float) -> Image.Image:
    try:
        with _gate.shared():
            return _decode(path, data, max_megapixels)
    except OSError as error:
        if isinstance(error, UnidentifiedImageError | FileNotFoundError) or not _is_cut(error):
            raise
        cut = error
    # Pillow has one switch for the whole process, so nobody else may read meanwhile.
    with _gate.alone():
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image = _decode(path, data, max_megapixels)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    missing = _blank_end(image)
    if missing > _HALF_READ:
        raise cut
    _warn_of_cut(path, missing)
    return image


@lru_cache(maxsize=1024)  # a file that is read twice warns once
def _warn_of_cut(path: str | Path, missing: float) -> None:
    log.warning(
        "%s: the end of the file is missing (%.0f %% of it); read without", path, 100 * missing
    )


def _decode(path: str | Path, data: bytes | None, max_megapixels: float) -> Image.Image:
    if data is None:
        refuse_special(path)
    with _open(path if data is None else io.BytesIO(data)) as image:
        _prepare(path, image, max_megapixels)
        image.load()
        return to_rgb(_reduced(image), str(path))


def _prepare(path: str | Path, image: Image.Image, max_megapixels: float) -> None:
    """Have a large JPEG decoded at reduced size; refuse what is too narrow or too large."""
    width, height = image.size
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(f"{path}: {width} x {height} pixels, too narrow to show anything; crop it.")
    if image.format in ("JPEG", "MPO") and width * height > _LARGE:
        # The decoder can halve a JPEG up to three times, at a fraction of time and memory.
        shrink = _REDUCED_SIDE / min(width, height)
        image.draft("RGB", (round(width * shrink), round(height * shrink)))
    if image.size[0] * image.size[1] > max_megapixels * 1e6:
        raise UserError(
            f"{path}: {width} x {height} pixels, more than {max_megapixels:g} megapixels; "
            "reduce the picture, save it as JPEG, which is read at any size, or allow more with "
            "--max-megapixels."
        )


_opening = threading.Lock()


def _open(source: str | Path | IO[bytes]) -> Image.Image:
    """``Image.open`` of picture formats alone, without Pillow's own limit of pixels."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return _with_its_colours(Image.open(source, formats=_formats()))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


_PHOTOMETRIC, _SUBSAMPLING, _YCBCR = 262, 530, 6  # TIFF 6.0, sections 8 and 21


def _with_its_colours(image: Image.Image) -> Image.Image:
    """A TIFF of YCbCr that no codec decodes, which Pillow takes for RGB in four bytes (12.3)."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "RGB":
        return image
    if image.tag_v2.get(_PHOTOMETRIC) == _YCBCR and image.tile and image.tile[0][0] == "raw":
        if tuple(image.tag_v2.get(_SUBSAMPLING, (2, 2))) != (1, 1):
            raise ValueError("uncompressed YCbCr of reduced colour, which nothing here can decode")
        image._mode = "YCbCr"
        image.tile = [tile._replace(args=("YCbCr", 0, 1)) for tile in image.tile]
    return image


def _reduced(image: Image.Image) -> Image.Image:
    """A very large image at a size that any CLIP can still be shown without loss."""
    factor = min(image.size) // _REDUCED_SIDE
    if factor < 2 or image.size[0] * image.size[1] <= _LARGE or image.mode in ("P", "1", "PA"):
        return image
    small = image.reduce(factor)
    small.info, exif = dict(image.info), image.getexif()
    if exif:
        small.info["exif"] = exif.tobytes()
    return small


def _is_cut(error: OSError) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("truncated", "unexpected end", "premature", "broken data"))


def _blank_end(image: Image.Image) -> float:
    """Share of rows at the end that hold one colour alone: what a decoder leaves undone."""
    rows = np.asarray(image)
    flat = (rows == rows[-1, -1]).all(axis=(1, 2))  # [H]
    return float(flat[::-1].cumprod().sum() / len(flat))


class _Gate:
    """Many may read at the same time, or one alone."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._readers = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._free:
            self._readers += 1
        try:
            yield
        finally:
            with self._free:
                self._readers -= 1
                self._free.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: self._readers == 0)
            yield


_gate = _Gate()


# --- which files --------------------------------------------------------------------------------


@cache
def _register_heif() -> bool:
    """Let Pillow read HEIF, if pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def _suffixes() -> frozenset[str]:
    _register_heif()
    Image.init()
    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if name in _formats()
    )


def _looks_like_picture(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError:
        return False
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    boxed = start[4:8] == b"ftyp" and (start[8:12] in (b"avif", b"avis") or _heif(start))
    return start.startswith(_MAGIC) or webp or boxed


def _heif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def _why(path: str | Path, data: bytes | None, error: Exception) -> str:
    """What is wrong with a file that cannot be read, and what to do."""
    start = b"" if data is None else data[:16]
    if data is None and Path(path).is_dir():
        return "is a folder, not an image; name an image."
    if data is None:
        try:
            with Path(path).open("rb") as stream:
                start = stream.read(16)
        except (OSError, ValueError) as failure:  # of a name with a zero byte
            reason = getattr(failure, "strerror", failure)
            return f"cannot be read ({reason}); check the file and its permissions."
    if not start:
        return "cannot be read as an image (the file is empty); repair or remove it."
    if _heif(start) and not _register_heif():
        return "is a HEIC picture, which needs pillow-heif; run: pip install pillow-heif"
    if isinstance(error, UnidentifiedImageError):
        return "cannot be read as an image (no format that is known here); repair or remove it."
    reason = str(error).replace(str(path), "").strip(" '\"") or type(error).__name__
    return f"cannot be read as an image ({reason}); repair or remove it."
