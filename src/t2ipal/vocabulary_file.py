"""The YAML form of a vocabulary, read through its syntax tree so that complaints name lines."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from t2ipal.errors import UserError, nearest
from t2ipal.vocabulary import ClassName, Vocabulary, plain

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is ten times faster

_CLASS_KEYS = ("name", "readable", "synonyms", "ambiguous", "excluding", "verbs", "attributive")
_FILE_KEYS = ("title", "classes")


def parse(text: str, source: str, title: str) -> Vocabulary:
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
