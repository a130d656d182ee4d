"""The words in the names of classes as data sets write them, and files that list such names.

``TrafficLight``, ``bow_(weapon)``, ``tench, Tinca tinca`` and ``cabinet/shelf`` hold what captions
say, and more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from t2ipal.errors import UserError
from t2ipal.files.names import name_key
from t2ipal.files.tables import SMALL, read_table, refuse_large, text_lines

_NAME_HEADERS = (
    "class",
    "classes",
    "class name",
    "label",
    "labels",
    "name",
    "names",
    "displayname",
)
_ID = re.compile(r"/[a-z]/\w+|n\d{8}|Q\d+")  # of Freebase (Open Images), WordNet and Wikidata
_CAMEL = re.compile(r"[A-Z]?[a-z]+(?:[A-Z][a-z]+)+")
_OUTSIDE = r"(?![^(\[]*[)\]])"  # what follows does not stand in brackets
_LIST_MARK = re.compile(rf"\s*[,;](?!\d)\s*{_OUTSIDE}")
_SLASH = re.compile(rf"\s*/\s*{_OUTSIDE}")
_BRACKETS = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])\s*")
_PLURAL_MARK = re.compile(r"\((?:s|es|ies)\)")  # box(es)


def plain(name: str) -> str:
    """A key as words: underscores become spaces."""
    return " ".join(name.replace("_", " ").split()) if "_" in name else name


def uncamel(name: str) -> str:
    """``TrafficLight`` as words; another name as :func:`plain` writes it."""
    if not _CAMEL.fullmatch(name) or name[1:2].isupper():  # iPhone
        return plain(name)
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()


def is_id(name: str) -> bool:
    """Whether a name is an identifier that no caption holds, such as ``/m/0abc``."""
    return _ID.fullmatch(name) is not None


def readable_class(name: str) -> str:
    """A key as prompts write it: of a list the first, alternatives joined by "or"."""
    if is_id(name):
        return name
    first = next(filter(_is_word, _LIST_MARK.split(_PLURAL_MARK.sub("", plain(name)))), name)
    if not any(_beside_slashes(first)):
        return uncamel(name) if first == name else first
    short, *others = _SLASH.split(first)
    different = [word for word in others if word not in (short + "s", short + "es")]
    return " or ".join([short, *different])


def shorter_names(name: str) -> Iterator[tuple[str, str]]:
    """The shorter words in a name, each with its kind; see
    :attr:`t2ipal.vocabulary.ClassName.parts`."""
    if is_id(name):
        return
    single = _PLURAL_MARK.sub("", name)
    listed = [part.strip() for part in _LIST_MARK.split(single) if _is_word(part)]
    if listed != [name]:
        yield from ((word, "alternative") for word in listed)
    for part in listed:
        beside = list(_beside_slashes(part))
        yield from beside
        for word in [word for word, _ in beside] or [part]:
            bare = " ".join(_BRACKETS.sub(" ", word).split())
            if bare != word and _is_word(bare):
                yield bare, "bare"


def _beside_slashes(name: str) -> Iterator[tuple[str, str]]:
    """``cutting/chopping board``: "cutting board" and "chopping board"; "cutting" is a fragment."""
    words = [part.strip() for part in _SLASH.split(name)]
    letters = [sum(character.isalpha() for character in word) for word in words]
    if len(words) < 2 or min(letters) < 2:
        return
    *_, last = words
    for word in words:
        fewer = len(word.split()) < len(last.split())
        if fewer:
            yield " ".join([word, *last.split()[len(word.split()) :]]), "alternative"
        yield word, "fragment" if fewer else "alternative"


def _is_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def named_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, name); of a table its column of names, or the cells of its only row."""
    if path.is_file():
        refuse_large(path, SMALL)
    if path.suffix.lower() not in (".csv", ".tsv"):
        lines = ((number, line.strip()) for number, line in text_lines(path))
        for number, name in lines:
            if name[:2] in ("{", '{"', "[", '["', "[{"):
                raise UserError(f"{path}:{number}: is JSON, it seems; call the file .json.")
            if name and name[0] != "#":
                yield number, name
        return
    rows = list(read_table(path, header=False).rows)
    keys = [name_key(cell) for cell in rows[0][1]] if rows else []
    column = next((keys.index(key) for key in _NAME_HEADERS if key in keys), None)
    if column is None and len(rows) == 1:
        yield from ((rows[0][0], cell.strip()) for cell in rows[0][1] if cell.strip())
        return
    if column is None and len(keys) > 1:
        raise UserError(
            f"{path}:{rows[0][0]}: several columns and none called 'name' or 'class'; write a "
            "header that says which holds the class names."
        )
    for number, cells in rows if column is None else rows[1:]:
        if name := cells[column or 0].strip():
            yield number, name
