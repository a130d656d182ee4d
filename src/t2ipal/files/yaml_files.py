"""YAML files: read whole, mistakes told with their line, and the line of a key found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from t2ipal.errors import UserError
from t2ipal.files import Keys
from t2ipal.files.tables import SMALL, read_text


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: the file cannot be read, is no mapping in YAML, or gives a key twice; the line
            is named.
    """
    mapping = _load(path, _Loader)
    if not isinstance(mapping, dict):
        raise UserError(f"{path}: expected keys and values, such as 'classes: voc2007'.")
    return mapping


def read_yaml_texts(path: str | Path) -> Any:
    """A YAML file of any shape, each scalar as the characters it is written with.

    YAML's habit of reading ``no`` as false and ``1.10`` as a number is of no use in names.

    Raises:
        UserError: as :func:`read_yaml`.
    """
    return _load(path, _TextLoader)


def yaml_line(path: str | Path, keys: Keys) -> int | None:
    """The line, from 1, that keys and positions in lists lead to in a YAML file.

    It is the line of the last key that is there; None if not even the first one is.
    """
    node, line = _compose(path, _Loader)[1], None
    for key in keys:
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in children if pair[0].value == str(key)]
        else:
            found = [(child, child) for number, child in enumerate(children) if number == key]
        if not found:
            break
        line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is ten times faster
_TextLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def _load(path: str | Path, loader: Any) -> Any:
    reader, node = _compose(path, loader)
    if node is None:
        return None
    _check_node(path, node, {})
    try:
        return reader.construct_document(node)
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from None
    except _NOT_YAML as error:  # dates that do not exist, numbers of thousands of digits
        raise UserError(f"{path}: holds a value that cannot be ({error}); correct it.") from None


def _compose(path: str | Path, loader: Any) -> tuple[Any, Any]:
    try:
        reader = loader(read_text(path, _LARGEST))
        return reader, reader.get_single_node()
    except _NOT_YAML as error:
        raise _not_yaml(path, error) from None


_LARGEST = SMALL // 4  # bytes: a node of YAML takes more memory than a value of JSON
# Dates that do not exist, numbers of thousands of digits, !!int of a word: not only YAMLError.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError)


def _not_yaml(path: str | Path, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if isinstance(error, RecursionError):
        problem = "it is nested too deeply"
    return UserError(f"{where}: is not YAML ({problem}); repair it.")


def _check_node(path: str | Path, node: yaml.Node, sizes: dict[int, int]) -> int:
    """Refuse keys given twice and aliases that unfold without end; the values the node unfolds to.

    Args:
        sizes: those of the nodes that were looked at; 0 while they are.
    """
    if isinstance(node, yaml.ScalarNode) or sizes.get(id(node)):
        return sizes.get(id(node), 1)
    line = node.start_mark.line + 1
    if id(node) in sizes:
        raise UserError(f"{path}:{line}: an alias stands within what it names; remove it.")
    sizes[id(node)], seen, size = 0, set(), 1
    for value in node.value:
        if isinstance(node, yaml.MappingNode):
            key, value = value
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                line = key.start_mark.line + 1
                raise UserError(f"{path}:{line}: the key {name!r} is given twice.")
            seen.add(name)
        size += 1 if isinstance(value, yaml.ScalarNode) else _check_node(path, value, sizes)
    if size > _MOST_VALUES:
        raise UserError(f"{path}:{line}: unfolds to more than {_MOST_VALUES:,} values; shorten it.")
    sizes[id(node)] = size
    return size


_MOST_VALUES = 10_000_000


def yaml_key(path: str | Path) -> Callable[[str], str]:
    """How an error calls a key of a YAML file: by the file and the line of the key."""

    def named(key: str) -> str:
        line = yaml_line(path, key.split("."))
        return f"{path}:{line}: {key}" if line else f"{path}: {key}"

    return named
