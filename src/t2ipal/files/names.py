"""One rule for names: when do two spellings name the same thing?"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_JOINTS = re.compile(r"[\s_\-\u2010-\u2015]+")
_PLAIN_MARKS = str.maketrans(
    "\u2018\u2019\u02bc\u2032\u00b4\uff07\u201c\u201d\u2033", "''''''\"\"\""
)


def fold(text: str) -> str:
    """The text in the one spelling of its characters.

    Unicode is normalised (NFKC: composed letters, full width folded), letter case folded, soft
    hyphens and zero-width signs dropped, typographic apostrophes and quotation marks made plain.
    """
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN_MARKS)).casefold()
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    return unicodedata.normalize("NFC", text)


def name_key(name: str) -> str:
    """The form in which names are compared: folded, and ``_``, ``-`` and blanks are one blank.

    >>> name_key("Dining_Table") == name_key("dining-table ") == "dining table"
    True
    """
    return _JOINTS.sub(" ", fold(name)).strip()


def portable_path(text: str) -> PurePosixPath:
    r"""A path as it stands in a file, written on any system: ``a\b.jpg`` is ``a/b.jpg``.

    >>> portable_path("photos\\cat.jpg").as_posix()
    'photos/cat.jpg'
    """
    text = text.strip()
    return PurePosixPath(PureWindowsPath(text).as_posix() if "\\" in text else text)


def readable_name(text: str) -> str:
    r"""A file's name in one line of valid text: bytes that are no UTF-8, and control characters, as
    ``\xe9``. :func:`from_readable` is its inverse.

    >>> readable_name("caf\udce9\n.png")
    'caf\\xe9\\x0a.png'
    """
    if text.isprintable():
        return text
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return _CONTROLS.sub(lambda sign: "".join(f"\\x{byte:02x}" for byte in sign[0].encode()), text)


def from_readable(text: str) -> str:
    """The name that :func:`readable_name` wrote."""
    name = re.sub(rb"\\x([0-9a-f]{2})", lambda sign: bytes.fromhex(sign[1].decode()), text.encode())
    return os.fsdecode(name)
