"""The reader of pictures: every way to store a picture shows what its 8-bit RGB twin shows."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.files import pictures
from t2ipal.files.pictures import is_picture, load_image, why_left_out
from t2ipal.files.rgb import BACKGROUND, to_rgb


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """A picture without symmetry, smooth enough for JPEG."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(np.uint8(255 * np.stack([x, y, 1 - x * y], axis=-1)))


def difference(a: Image.Image, b: Image.Image) -> float:
    assert a.size == b.size
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).max())


def encoded(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize(
    "mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "LA", "PA", "I;16", "F", "I"]
)
def test_every_mode_shows_its_rgb_twin(mode: str) -> None:
    grey = np.asarray(scene().convert("L"))
    match mode:
        case "I;16":
            image, twin = Image.fromarray(grey.astype(np.uint16) * 257), scene().convert("L")
        case "F":
            image, twin = Image.fromarray(grey.astype(np.float32) / 255), scene().convert("L")
        case "I":
            image, twin = Image.fromarray(grey.astype(np.int32) * 257), scene().convert("L")
        case "PA":
            image, twin = scene().convert("P").convert("PA"), scene().convert("P")
        case _:
            image = twin = scene().convert(mode)
    assert difference(to_rgb(image), twin.convert("RGB")) <= 1


@given(st.integers(0, 255), st.sampled_from(["unit", "byte", "word", "int"]))
def test_grey_of_any_depth(level: int, scale: str) -> None:
    """A ramp up to white, so that the range tells the scale."""
    ramp = np.array([[level, 255]], dtype=np.float64)
    values = {
        "unit": (ramp / 255).astype(np.float32),
        "byte": ramp.astype(np.float32),
        "word": (ramp * 257).astype(np.uint16),
        "int": (ramp * 257).astype(np.int32),
    }[scale]
    shown = np.asarray(to_rgb(Image.fromarray(values)))
    assert shown[0, 0].tolist() == [level] * 3


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_an_uncompressed_tiff_of_ycbcr(subsampling: tuple[int, int], tmp_path: Path) -> None:
    """Pillow takes it for RGB in four bytes, and its end for missing."""
    path = tmp_path / "a.tif"
    tags = {262: 6, 530: subsampling}
    scene().convert("YCbCr").save(path, tiffinfo=tags)
    if subsampling == (1, 1):
        assert difference(load_image(path), scene()) <= 3
    else:
        with pytest.raises(UserError, match="uncompressed YCbCr of reduced colour"):
            load_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_files_of_16_bits(suffix: str, tmp_path: Path) -> None:
    grey = np.asarray(scene().convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"deep.{suffix}")
    assert (
        difference(load_image(tmp_path / f"deep.{suffix}"), scene().convert("L").convert("RGB"))
        == 0
    )


def test_transparency_shows_the_background() -> None:
    image = scene().convert("RGBA")
    image.putalpha(0)
    assert to_rgb(image).getcolors() == [(64 * 48, BACKGROUND)]
    palette = scene().convert("P")
    data = encoded(palette, format="PNG", transparency=bytes(256))  # every colour of the palette
    assert load_image("palette", data).getcolors() == [(64 * 48, BACKGROUND)]
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert to_rgb(half).getpixel((1, 1)) == (127, 127, 127)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_mark_is_applied_to_files_bytes_and_images(
    orientation: int, tmp_path: Path
) -> None:
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = scene()
    for turn in turns.get(orientation, []):
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    with Image.open(path) as opened:
        for image in (load_image(path), load_image("bytes", path.read_bytes()), to_rgb(opened)):
            assert difference(image, scene()) == 0


def test_animations_show_their_first_frame() -> None:
    second = Image.new("RGB", (64, 48), "red")
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(scene(), format=form, save_all=True, append_images=[second], **options)
        assert difference(load_image(form, data), scene()) <= (60 if form == "GIF" else 0)


def test_a_wrong_suffix_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(scene(), format="JPEG", quality=95))
    assert difference(load_image(tmp_path / "a.png"), scene()) < 40


def test_a_cut_file_is_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    for form in ("JPEG", "PNG"):
        data = encoded(noise, format=form)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            image = load_image("cut.file", data[: int(len(data) * 0.8)])
        assert image.size == (256, 256)
        assert (
            difference(image.crop((0, 0, 256, 100)), load_image("x", data).crop((0, 0, 256, 100)))
            == 0
        )
        assert [record.getMessage().split(":")[0] for record in caplog.records] == ["cut.file"]
        with pytest.raises(UserError, match="cannot be read"):
            load_image("cut.file", data[: int(len(data) * 0.2)])


def test_a_cut_file_among_others_in_threads() -> None:
    """Pillow's switch for cut files is one of the process: others must not be read by it."""
    noise = Image.effect_noise((128, 128), 90).convert("RGB")
    data = encoded(noise, format="PNG")
    cut = [data[: int(len(data) * share)] for share in (0.1, 0.3, 0.8, 0.9)]

    def read(n: int) -> str:
        try:
            load_image(str(n), cut[n % 4])
        except UserError:
            return "refused"
        return "read"

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(80)))
    assert found == ["refused", "refused", "read", "read"] * 20


def test_broken_metadata_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(scene(), format="JPEG", quality=95)
    broken = (
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\x12\x01\x03\x00\xff\xff\xff\x7f" * 3
    )
    segment = b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken
    image = load_image("odd.jpg", data[:2] + segment + data[2:])
    assert difference(image, scene()) < 40


def _png_of(width: int, height: int) -> bytes:
    """A black grey PNG whose pixels nobody had to hold in memory."""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(b"\0" * (width + 1)) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_large_pictures() -> None:
    assert min(load_image("large.png", _png_of(6000, 5000)).size) >= 2048
    jpeg = encoded(Image.new("RGB", (8000, 6000), "green"), format="JPEG")
    image = load_image("large.jpg", jpeg, max_megapixels=20)  # decoded at reduced size
    assert min(image.size) >= 2048 and image.getpixel((9, 9))[1] > 100
    with pytest.raises(UserError, match=r"large.png: 6000 x 5000 pixels, more than 20 megapixels"):
        load_image("large.png", _png_of(6000, 5000), max_megapixels=20)
    with pytest.raises(UserError, match="too narrow"):
        load_image("line.png", _png_of(60000, 1))


def test_pillows_own_limit_is_not_changed() -> None:
    before = Image.MAX_IMAGE_PIXELS
    load_image("x", encoded(scene(), format="PNG"))
    assert before == Image.MAX_IMAGE_PIXELS


def test_bad_files_are_named(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    vector = tmp_path / "vector.jpg"
    vector.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for path in (text, empty, vector):
        with pytest.raises(UserError, match="cannot be read as an image") as caught:
            load_image(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 200
    with pytest.raises(UserError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(UserError, match="not found"):
        load_image(tmp_path / "absent.png")


def test_heic_names_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_register_heif", lambda: False)
    for name in ("a.heic", "b.jpg"):
        path = tmp_path / name
        path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
        with pytest.raises(UserError, match="pip install pillow-heif"):
            load_image(path)
    assert not is_picture(tmp_path / "a.heic")
    assert why_left_out(tmp_path / "a.heic") == ".heic (pip install pillow-heif)"


@pytest.mark.parametrize("suffix", ["JPG", "jfif", "jpe", "apng", "avif", "jp2", "tiff", "webp"])
def test_pictures_by_suffix(suffix: str) -> None:
    assert is_picture(Path(f"absent.{suffix}"))


def test_pictures_by_their_first_bytes(tmp_path: Path) -> None:
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"):
        (tmp_path / form).write_bytes(encoded(scene(), format=form))
        assert is_picture(tmp_path / form)
    (tmp_path / "notes").write_text("BM")
    (tmp_path / "a.txt").write_text("words")
    assert not is_picture(tmp_path / "a.txt")
    assert not is_picture(tmp_path / "absent")
    assert not is_picture(tmp_path / "notes")
