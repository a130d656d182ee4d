"""Classes: their keys, the names that go into prompts, and the words captions use for them.

A vocabulary is an ordered list of classes. Its order is the order of every score vector and target
vector in the project. Three come with the package (``voc2007``, ``coco2014``, ``nuswide``); others
are read from YAML (see :meth:`Vocabulary.load`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from t2ipal.errors import UserError, nearest
from t2ipal.files import sha256_text

UNKNOWN = -1
"""Target value of a class of which nothing is known: left out of every loss and metric."""

BUILT_IN = ("voc2007", "coco2014", "nuswide")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is ten times faster

_CLASS_KEYS = ("name", "readable", "synonyms", "ambiguous", "excluding", "verbs", "attributive")
_FILE_KEYS = ("title", "classes")


@dataclass(frozen=True)
class ClassName:
    """One class.

    Attributes:
        name: the key, as the benchmark writes it (``diningtable``).
        readable: the name in plain English, for prompts (``dining table``).
        synonyms: further words that name the class. Plurals need not be listed.
        ambiguous: (word, context words): the word names the class only in a caption that also
            holds one of the context words; anywhere else it leaves the class unknown.
        excluding: longer phrases that hold a word of the class and do not mean it
            (``coffee table`` for ``diningtable``).
        verbs: for activities: verbs that name the class when a person or an animal does them.
        attributive: the words name the class in front of another noun too ("police car").
    """

    name: str
    readable: str
    synonyms: tuple[str, ...] = ()
    ambiguous: tuple[tuple[str, tuple[str, ...]], ...] = ()
    excluding: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    attributive: bool = False

    def __post_init__(self) -> None:
        words = (self.readable, *self.synonyms, *self.excluding, *self.verbs)
        words += tuple(word for word, _ in self.ambiguous)
        words += tuple(word for _, context in self.ambiguous for word in context)
        for word in (self.name, *words):
            if not any(character.isalnum() for character in word):
                raise UserError(
                    f"class {self.name!r}: the name {word!r} has no letter; give it one."
                )
            if word != word.strip() or any(ord(character) < 32 for character in word):
                raise UserError(
                    f"class {self.name!r}: the name {word!r} holds spaces at its ends or control "
                    "characters; remove them."
                )
        if "|" in self.name:
            raise UserError(
                f"class {self.name!r}: the character '|' separates classes in label files; "
                "choose another name."
            )

    @property
    def phrases(self) -> tuple[str, ...]:
        """The words that name the class: readable name, key and synonyms less the ambiguous."""
        doubtful = {word for word, _ in self.ambiguous}
        words = dict.fromkeys((self.readable, plain(self.name), *self.synonyms))
        return tuple(word for word in words if word not in doubtful)

    def as_dict(self) -> dict[str, Any]:
        """The mapping that the YAML form holds; defaults are left out."""
        row: dict[str, Any] = {"name": self.name}
        if self.readable != plain(self.name):
            row["readable"] = self.readable
        if self.synonyms:
            row["synonyms"] = list(self.synonyms)
        if self.ambiguous:
            row["ambiguous"] = {word: list(context) for word, context in self.ambiguous}
        if self.excluding:
            row["excluding"] = list(self.excluding)
        if self.verbs:
            row["verbs"] = list(self.verbs)
        if self.attributive:
            row["attributive"] = True
        return row


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
            key = item.name.casefold()
            if key in seen:
                raise UserError(
                    f"vocabulary {self.title!r} names the class {item.name!r} twice; remove one."
                )
            seen[key] = item.name

    @classmethod
    def load(cls, spec: str | Path | Vocabulary) -> Vocabulary:
        """A built-in vocabulary by name, one read from a YAML file, or ``spec`` itself.

        The file is a plain list of class names, or a mapping ``{title, classes}`` whose classes
        are names or mappings with the keys of :class:`ClassName`::

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
        if isinstance(spec, str) and spec in BUILT_IN:
            source = resources.files("t2ipal").joinpath("vocabularies", f"{spec}.yaml")
            return _parse(source.read_text(encoding="utf-8"), f"{spec}.yaml", spec)
        path = Path(spec)
        if not path.exists() and path.suffix.lower() not in (".yaml", ".yml"):
            raise UserError(
                f"no vocabulary {str(spec)!r}{nearest(str(spec), BUILT_IN)}; use one of "
                f"{', '.join(BUILT_IN)} or the path of a YAML file."
            )
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8 text; save the file as UTF-8.") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check the path.") from None
        return _parse(text, str(path), path.stem)

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
        return cls(title, tuple(ClassName(name, plain(name)) for name in names))

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
        return _parse(json.dumps(mapping, ensure_ascii=False), source, "classes")  # JSON is YAML

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


# The YAML form, read through its syntax tree so that complaints name lines.


def _parse(text: str, source: str, title: str) -> Vocabulary:
    """The vocabulary in ``text``; ``title`` is its title where it has none.

    Raises:
        UserError: ``text`` breaks the format; the message names ``source`` and the line.
    """
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(f"{source}{line}: broken YAML ({problem}); repair the file.") from None
    if root is None:
        raise UserError(f"{source}: the file is empty; list the class names in it.")
    classes_node = root
    if isinstance(root, yaml.MappingNode):
        entries = _entries(root, _FILE_KEYS, source)
        if "classes" not in entries:
            raise UserError(f"{source}:{_line(root)}: the key 'classes' is missing; add the list.")
        classes_node = entries["classes"]
        if "title" in entries:
            title = _text(entries["title"], source)
    classes: list[ClassName] = []
    first_lines: dict[str, int] = {}
    for node in _items(classes_node, source, "a list of classes"):
        item = _class(node, source)
        key = item.name.casefold()
        if key in first_lines:
            raise UserError(
                f"{source}:{_line(node)}: the class {item.name!r} stands on line "
                f"{first_lines[key]} already; remove one."
            )
        first_lines[key] = _line(node)
        classes.append(item)
    if not classes:
        raise UserError(f"{source}:{_line(root)}: the list of classes is empty; name at least one.")
    return Vocabulary(title, tuple(classes))


def _class(node: yaml.Node, source: str) -> ClassName:
    if isinstance(node, yaml.ScalarNode):
        entries: dict[str, yaml.Node] = {"name": node}
    elif isinstance(node, yaml.MappingNode):
        entries = _entries(node, _CLASS_KEYS, source)
        if "name" not in entries:
            raise UserError(f"{source}:{_line(node)}: a class without 'name'; add it.")
    else:
        raise UserError(
            f"{source}:{_line(node)}: expected a class name or a mapping with 'name', found a list."
        )
    name = _text(entries["name"], source)
    ambiguous: tuple[tuple[str, tuple[str, ...]], ...] = ()
    if "ambiguous" in entries:
        mapping = entries["ambiguous"]
        if not isinstance(mapping, yaml.MappingNode):
            raise UserError(
                f"{source}:{_line(mapping)}: 'ambiguous' must map words to lists of context words."
            )
        ambiguous = tuple(
            (_text(word, source), _texts(context, source)) for word, context in mapping.value
        )
    try:
        return ClassName(
            name=name,
            readable=_text(entries["readable"], source) if "readable" in entries else plain(name),
            synonyms=_texts(entries.get("synonyms"), source),
            ambiguous=ambiguous,
            excluding=_texts(entries.get("excluding"), source),
            verbs=_texts(entries.get("verbs"), source),
            attributive=_truth(entries.get("attributive"), source),
        )
    except UserError as error:
        raise UserError(f"{source}:{_line(node)}: {error}") from None


def _entries(node: yaml.MappingNode, allowed: Iterable[str], source: str) -> dict[str, yaml.Node]:
    """The mapping's values by key; unknown and repeated keys are errors."""
    allowed = tuple(allowed)
    found: dict[str, yaml.Node] = {}
    for key_node, value in node.value:
        key = _text(key_node, source)
        if key not in allowed:
            raise UserError(
                f"{source}:{_line(key_node)}: unknown key {key!r}{nearest(key, allowed)}; "
                f"known: {', '.join(allowed)}."
            )
        if key in found:
            raise UserError(f"{source}:{_line(key_node)}: the key {key!r} is given twice.")
        found[key] = value
    return found


def _items(node: yaml.Node, source: str, expected: str) -> list[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode):
        raise UserError(f"{source}:{_line(node)}: expected {expected}.")
    return node.value


def _texts(node: yaml.Node | None, source: str) -> tuple[str, ...]:
    if node is None:
        return ()
    return tuple(_text(item, source) for item in _items(node, source, "a list of words"))


def _truth(node: yaml.Node | None, source: str) -> bool:
    if node is None:
        return False
    value = getattr(node, "value", "")
    if value not in ("true", "false"):
        raise UserError(f"{source}:{_line(node)}: expected true or false.")
    return value == "true"


def _text(node: yaml.Node, source: str) -> str:
    """A scalar's own characters: YAML's habit of reading ``no`` as false is of no use in names."""
    if not isinstance(node, yaml.ScalarNode):
        raise UserError(f"{source}:{_line(node)}: expected a word, found a list or mapping.")
    if not node.value.strip():
        raise UserError(f"{source}:{_line(node)}: a name is empty; write it or remove the line.")
    return node.value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
