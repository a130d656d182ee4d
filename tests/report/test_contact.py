"""The contact sheet: every image in its place, captions within their columns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from t2ipal.report.contact import _contact_sheet, _fit, _wrap, write_contact_sheet

relaxed = settings(deadline=None, max_examples=50)  # a busy machine is no failure

FONT = ImageFont.load_default(13)
COLOURS = [(200, 0, 0), (0, 160, 0), (0, 0, 200), (200, 160, 0), (0, 160, 200)]
ITEMS = [(Image.new("RGB", (30, 30), colour), f"caption {i}") for i, colour in enumerate(COLOURS)]


@relaxed
@given(st.text(st.characters(codec="utf-8"), max_size=80), st.integers(30, 200), st.integers(1, 4))
def test_lines_fit_and_are_few(text, width, most):
    lines = _wrap(text, FONT, width, most)
    assert 1 <= len(lines) <= most
    assert all(FONT.getlength(line) <= width for line in lines)


@relaxed
@given(st.lists(st.sampled_from(["a", "dog", "kennel", "umbrella"]), max_size=12))
def test_a_text_that_fits_is_kept_word_for_word(words):
    assert " ".join(_wrap(" ".join(words), FONT, 90, 99)).split() == words


def test_a_long_text_ends_in_an_ellipsis_and_a_long_word_is_cut():
    assert _wrap("many words " * 20, FONT, 80, 2)[-1].endswith("...")
    lines = _wrap("w" * 40, FONT, 80, 99)
    assert len(lines) > 1 and "".join(lines) == "w" * 40


def test_images_stand_in_rows_in_their_order():
    sheet = _contact_sheet(ITEMS, columns=3, cell=48)
    assert sheet.width == 2 * 24 + 3 * 48 + 2 * 16
    order = []
    for y in range(0, sheet.height, 8):
        for x in range(24 + 24, sheet.width, 48 + 16):
            pixel = sheet.getpixel((x, y))
            if pixel in COLOURS and COLOURS.index(pixel) not in order:
                order.append(COLOURS.index(pixel))
    assert order == [0, 1, 2, 3, 4]


def test_few_images_make_a_narrow_sheet_and_a_title_makes_room():
    narrow = _contact_sheet(ITEMS[:2], columns=6, cell=48)
    assert narrow.width == 2 * 24 + 2 * 48 + 16
    assert _contact_sheet(ITEMS[:2], cell=48, title="Generated images").height > narrow.height


def test_fit_keeps_the_shape():
    assert _fit(Image.new("L", (40, 20)), 100).size == (100, 50)
    assert _fit(Image.new("RGB", (300, 1)), 30).size == (30, 1)


def test_the_file_is_a_png_and_the_same_each_time(tmp_path):
    write_contact_sheet(tmp_path / "one.png", ITEMS, title="Generated images")
    write_contact_sheet(tmp_path / "two.png", ITEMS, title="Generated images")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        _contact_sheet([])
    with pytest.raises(ValueError, match="at least 1 and 32"):
        _contact_sheet(ITEMS, columns=0)
