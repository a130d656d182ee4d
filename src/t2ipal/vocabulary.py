"""Classes: their keys, the names that go into prompts, and the words captions use for them.

A vocabulary is an ordered list of classes. Its order is the order of every score vector and target
vector in the project. Three come with the package (``voc2007``, ``coco2014``, ``nuswide``); others
are read from YAML (see :meth:`Vocabulary.load`).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from t2ipal.errors import UserError, nearest
from t2ipal.files import NO_OTHER_KEYS, Keys, check, read_yaml_texts, sha256_text, yaml_line
from t2ipal.files.names import name_key
from t2ipal.files.tables import read_table, text_lines

UNKNOWN = -1
"""Target value of a class of which nothing is known: left out of every loss and metric."""

_NAME_LISTS = (".txt", ".names", ".lst", ".csv", ".tsv")
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

BUILT_IN = ("voc2007", "coco2014", "nuswide")


@dataclass(frozen=True)
class ClassName:
    """One class.

    Attributes:
        name: the key, as the benchmark writes it (``diningtable``).
        readable: the name in plain English, for prompts (``dining table``); if omitted the key,
            its underscores and capitals as blanks (``TrafficLight``), of synonyms in a list the
            first (``tench, Tinca tinca``), alternatives joined by "or" (``cabinet/shelf``).
        synonyms: further words that name the class. Plurals need not be listed.
        ambiguous: word -> context words: the word names the class only in a caption that also
            holds one of the context words; anywhere else it leaves the class unknown.
        excluding: longer phrases that hold a word of the class and do not mean it
            (``coffee table`` for ``diningtable``).
        verbs: for activities: verbs that name the class when a person or an animal does them.
        attributive: the words name the class in front of another noun too ("police car").
    """

    name: str
    readable: str = ""
    synonyms: tuple[str, ...] = ()
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    excluding: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    attributive: bool = False

    __pydantic_config__ = NO_OTHER_KEYS

    def __post_init__(self) -> None:
        if not self.readable:
            object.__setattr__(self, "readable", _readable(self.name))
        words = (self.name, self.readable, *self.synonyms, *self.excluding, *self.verbs)
        context = (word for words in self.ambiguous.values() for word in words)
        for word in (*words, *self.ambiguous, *context):
            named = f"class {_short(self.name)}: the name {_short(word)}"
            if not _is_word(word):
                raise UserError(f"{named} has no letter; give it one.")
            if len(word) > _LONGEST:
                raise UserError(f"{named} has {len(word)} characters; is this a list of classes?")
            if word != word.strip() or _CONTROL.search(word):
                raise UserError(
                    f"{named} holds spaces at its ends or control characters; remove them."
                )
        if "|" in self.name:
            raise UserError(
                f"class {self.name!r}: the character '|' separates classes in label files; "
                "choose another name."
            )

    @property
    def phrases(self) -> tuple[str, ...]:
        """The words that surely name the class: its names and synonyms less the ambiguous."""
        names = (*self._given, plain(self.name), _uncamel(self.name))
        words = dict.fromkeys((*names, *self.synonyms))
        return tuple(word for word in words if word not in self.ambiguous)

    @property
    def _given(self) -> tuple[str, ...]:
        """The readable name, if it is not made from the key."""
        return (self.readable,) if self.readable != _readable(self.name) else ()

    @cached_property
    def parts(self) -> dict[str, str]:
        """Shorter words in the names, each with how it names the class.

        An "alternative" stands in a list or beside a slash; it names the class if it names no
        other. So does a "bare" word, which a remark in brackets explains (``bow (weapon)``), unless
        it stands behind another noun. A "fragment" leaves the class unknown (the "stop" of
        ``stop/yield sign``).
        """
        found: dict[str, str] = {}
        for name in (plain(self.name), *self._given):
            for word, kind in _parts(name):
                if word not in (*self.phrases, *self.ambiguous):
                    found.setdefault(word, kind)
        return found

    def as_dict(self) -> dict[str, Any]:
        """The mapping that the YAML form holds; defaults are left out."""
        row = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        if self.readable == _readable(self.name):
            del row["readable"]
        return {key: value for key, value in row.items() if value}


@dataclass(frozen=True)
class Vocabulary:
    """An ordered, non-empty list of classes with distinct names.

    Raises:
        UserError: no class, or a name given twice.
    """

    title: str
    classes: tuple[ClassName, ...]

    def __repr__(self) -> str:
        names = [item.name for item in self.classes[:3]]
        dots = ["..."] if len(self) > 3 else []
        return f"Vocabulary({self.title!r}, {len(self)} classes: {', '.join(names + dots)})"

    def __post_init__(self) -> None:
        if not self.classes:
            raise UserError(f"vocabulary {self.title!r} has no classes; name at least one.")
        seen: dict[str, str] = {}
        for item in self.classes:
            key = name_key(item.name)
            if key in seen:
                twice = "" if seen[key] == item.name else f" ({seen[key]!r} is the same name)"
                raise UserError(
                    f"vocabulary {self.title!r} names the class {item.name!r} twice{twice}; "
                    "remove one."
                )
            seen[key] = item.name

    @classmethod
    def load(cls, spec: str | Path | Vocabulary) -> Vocabulary:
        """A built-in vocabulary by name, one read from a YAML file, or ``spec`` itself.

        The file is a text with one name per line (``.txt``, ``.names``), a table with a column of
        names (``.csv``), the ``data.yaml`` of a YOLO data set (``names``), or YAML or JSON: a plain
        list of class names, or a mapping ``{title, classes}`` whose classes are names or mappings
        with the keys of :class:`ClassName`::

            title: farm
            classes:
              - barn
              - name: cow
                readable: cow
                synonyms: [cattle, bull, calf]

        Raises:
            UserError: no such vocabulary or file, or a file that breaks the format (with its line).

        Examples:
            >>> Vocabulary.load("voc2007").names[:3]
            ('aeroplane', 'bicycle', 'bird')
        """
        if isinstance(spec, Vocabulary):
            return spec
        path = Path(spec)
        if spec in BUILT_IN:
            path = Path(__file__).with_name("vocabularies") / f"{spec}.yaml"
        elif not path.exists() and path.suffix.lower() not in (".yaml", ".yml"):
            raise UserError(
                f"no vocabulary {str(spec)!r}{nearest(str(spec), BUILT_IN)}; use one of "
                f"{', '.join(BUILT_IN)} or the path of a YAML file."
            )
        if path.suffix.lower() in _NAME_LISTS:
            return cls(path.stem, _listed_names(path))
        content = read_yaml_texts(path)
        if isinstance(content, dict) and "names" in content and "classes" not in content:
            names = content["names"]  # a YOLO data set's; by number or as a list
            content = list(names.values()) if isinstance(names, dict) else names
            return _parse(content, path.stem, lambda keys: f"{path}: names")
        if isinstance(content, str):
            raise UserError(
                f"{path}:1: expected a list of class names, one per line behind '- ', found "
                f"{content[:40]!r}; or call the file .txt and write one name per line."
            )
        return _parse(content, path.stem, lambda keys: f"{path}:{yaml_line(path, keys) or 1}")

    @classmethod
    def of(cls, names: Sequence[str], *, title: str = "classes") -> Vocabulary:
        """A vocabulary of bare names, without synonyms.

        Examples:
            >>> Vocabulary.of(["corgi", "espresso"]).index("espresso")
            1
        """
        if isinstance(names, str):
            raise UserError(f"expected a list of class names, found the text {names!r}.")
        for name in names:
            if not isinstance(name, str):
                raise UserError(f"a class name must be text, found {name!r}.")
        return cls(title, tuple(map(ClassName, names)))

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys, in order."""
        return tuple(item.name for item in self.classes)

    @cached_property
    def readable(self) -> tuple[str, ...]:
        """The names for prompts, in order."""
        return tuple(item.readable for item in self.classes)

    @cached_property
    def own_parts(self) -> tuple[tuple[str, ...], ...]:
        """Of each class the :attr:`ClassName.parts` that can name it in a list of labels.

        They are no fragments, and name no other class.
        """
        claims: dict[str, set[int]] = {}
        for position, item in enumerate(self.classes):
            for word in (*item.phrases, *item.ambiguous, *item.parts):
                claims.setdefault(name_key(word), set()).add(position)
        return tuple(
            tuple(
                word
                for word, kind in item.parts.items()
                if kind != "fragment" and len(claims[name_key(word)]) == 1
            )
            for item in self.classes
        )

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Position of a class.

        Raises:
            UserError: the vocabulary has no such class.
        """
        position = self._positions.get(name)
        if position is None:
            raise UserError(
                f"vocabulary {self.title!r} has no class {name!r}{nearest(name, self.names)}."
            )
        return position

    def meant(self, name: str) -> int:
        """Position of the class that a person means: its key, name or synonym in any spelling.

        Raises:
            UserError: no class is called so, or several are.
        """
        if name in self._positions:
            return self._positions[name]
        forms = [{*map(name_key, (c.name, c.readable, *c.phrases))} for c in self.classes]
        found = [i for i, keys in enumerate(forms) if name_key(name) in keys]
        if len(found) > 1:
            called = " and ".join(repr(self.names[i]) for i in found)
            raise UserError(f"{name!r} may be {called}; name the class by its key.")
        return found[0] if found else self.index(name)

    def targets(self, labels: Sequence[str], unknown: Sequence[str] = ()) -> np.ndarray:
        """Target vector, int8 [C]: 1 for labels, ``UNKNOWN`` for unknown, 0 for the rest.

        Raises:
            UserError: a name is not in the vocabulary, or stands in both lists.
        """
        row = np.zeros(len(self), dtype=np.int8)
        row[[self.index(name) for name in labels]] = 1
        for name in unknown:
            position = self.index(name)
            if row[position] == 1:
                raise UserError(f"class {name!r} is given both as label and as unknown.")
            row[position] = UNKNOWN
        return row

    def as_dict(self) -> dict[str, Any]:
        """The mapping that the YAML form holds; :meth:`from_dict` reads it back."""
        rows = [item.as_dict() for item in self.classes]
        return {
            "title": self.title,
            "classes": [row["name"] if len(row) == 1 else row for row in rows],
        }

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], source: str) -> Vocabulary:
        """The vocabulary of such a mapping, which was found in ``source``.

        Raises:
            UserError: it breaks the format.
        """
        return _parse(
            mapping, "classes", lambda keys: f"{source}: {'.'.join(map(str, keys)) or 'classes'}"
        )

    def to_yaml(self) -> str:
        """YAML that :meth:`load` reads back to an equal vocabulary."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True, width=100)

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any class, name, synonym or order, but not the title."""
        rows = [item.as_dict() for item in self.classes]
        return sha256_text(json.dumps(rows, ensure_ascii=False))[:16]


def plain(name: str) -> str:
    """A key as words: underscores become spaces."""
    return " ".join(name.replace("_", " ").split()) if "_" in name else name


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST = 300
_ID = re.compile(r"/[a-z]/\w+|n\d{8}|Q\d+")  # of Freebase (Open Images), WordNet and Wikidata
_CAMEL = re.compile(r"[A-Z]?[a-z]+(?:[A-Z][a-z]+)+")
_OUTSIDE = r"(?![^(\[]*[)\]])"  # what follows does not stand in brackets
_LIST_MARK = re.compile(rf"\s*[,;](?!\d)\s*{_OUTSIDE}")
_SLASH = re.compile(rf"\s*/\s*{_OUTSIDE}")
_BRACKETS = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])\s*")
_PLURAL_MARK = re.compile(r"\((?:s|es|ies)\)")  # box(es)


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")


def is_id(name: str) -> bool:
    """Whether a name is an identifier that no caption holds, such as ``/m/0abc``."""
    return _ID.fullmatch(name) is not None


def _uncamel(name: str) -> str:
    """``TrafficLight`` as words; another name as :func:`plain` writes it."""
    if not _CAMEL.fullmatch(name) or name[1:2].isupper():  # iPhone
        return plain(name)
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _readable(name: str) -> str:
    if is_id(name):
        return name
    first = next(filter(_is_word, _LIST_MARK.split(_PLURAL_MARK.sub("", plain(name)))), name)
    if not any(_beside_slashes(first)):
        return _uncamel(name) if first == name else first
    short, *others = _SLASH.split(first)
    different = [word for word in others if word not in (short + "s", short + "es")]
    return " or ".join([short, *different])


def _is_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _parts(name: str) -> Iterator[tuple[str, str]]:
    """The shorter words in a name, each with its kind; see :attr:`ClassName.parts`."""
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


@dataclass(frozen=True)
class _File:
    classes: list[Any]
    title: str = ""

    __pydantic_config__ = NO_OTHER_KEYS


def _parse(content: object, title: str, place: Callable[[Keys], str]) -> Vocabulary:
    """The vocabulary in the content of a file; ``title`` is its title if it has none.

    Raises:
        UserError: it breaks the format; the message begins with the place.
    """
    if content is None:
        raise UserError(f"{place(())}: the file is empty; list the class names in it.")
    within: tuple[str, ...] = ("classes",) if isinstance(content, Mapping) else ()
    file = check(_File, content if within else {"classes": content}, place)
    rows = [{"name": one} if isinstance(one, str) else one for one in file.classes]
    classes = check(tuple[ClassName, ...], rows, lambda keys: place((*within, *keys)))
    if not classes:
        raise UserError(f"{place(within)}: the list of classes is empty; name at least one.")
    first: dict[str, int] = {}
    for number, item in enumerate(classes):
        if (other := first.setdefault(name_key(item.name), number)) != number:
            raise UserError(
                f"{place((*within, number))}: the class {item.name!r} stands at "
                f"{place((*within, other))} already; remove one."
            )
    return Vocabulary(file.title or title, classes)


def _listed_names(path: Path) -> tuple[ClassName, ...]:
    """The names of a text with one per line, or of a table."""
    lines: dict[str, int] = {}
    found: list[ClassName] = []
    for number, name in _named_lines(path):
        key = name_key(name)
        if key in lines:
            raise UserError(
                f"{path}:{number}: the class {name!r} is on line {lines[key]} already; remove one."
            )
        lines[key] = number
        try:
            found.append(ClassName(name))
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from None
    if not found:
        raise UserError(f"{path}: the file is empty; write one class name per line.")
    return tuple(found)


def _named_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, name); of a table its column of names, or the cells of its only row."""
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
