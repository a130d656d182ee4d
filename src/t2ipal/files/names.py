"""One rule for names: when do two spellings name the same thing?"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

_JOINTS = re.compile(r"[\s_\-\u2010-\u2015]+")


def name_key(name: str) -> str:
    """The form in which names are compared.

    Unicode is normalised (NFKC: composed letters, full width folded), letter case folded, soft
    hyphens and zero-width signs dropped; underscores, hyphens and blanks count as one blank.

    >>> name_key("Dining_Table") == name_key("dining-table ") == "dining table"
    True
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    return unicodedata.normalize("NFC", _JOINTS.sub(" ", text)).strip()


def portable_path(text: str) -> PurePosixPath:
    r"""A path as it stands in a file, written on any system: ``a\b.jpg`` is ``a/b.jpg``.

    >>> portable_path("photos\\cat.jpg").as_posix()
    'photos/cat.jpg'
    """
    text = text.strip()
    return PurePosixPath(PureWindowsPath(text).as_posix() if "\\" in text else text)
