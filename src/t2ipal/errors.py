"""Mistakes of the user: the exception for them, and groups of settings that raise it.

A group of settings is a class under :func:`settings`. Each field is declared there once, with its
bounds in the annotation and its help in the docstring beneath, and is from then on a key of YAML
files, an option of the command line and a keyword in Python.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, dataclass_transform

from annotated_types import Ge, Gt, Le, Lt, MultipleOf

if TYPE_CHECKING:
    from pydantic import ValidationError

Group = TypeVar("Group")

_MOST = 2**63 - 1  # what counts items in Python
_FAR = 1000  # bounds that nobody meets by mistake are told to those alone who do
Count = Annotated[int, Ge(1), Le(_MOST), "N"]
Whole = Annotated[int, Ge(0), Le(_MOST), "N"]
Batch = Annotated[int, Ge(1), Le(65_536), "N"]
# products of a few of these are still finite in float32
Positive = Annotated[float, Gt(0), Le(1e6), "X"]
NotNegative = Annotated[float, Ge(0), Le(1e6), "X"]
Temperature = Annotated[float, Ge(1e-6), Le(1e6), "X"]  # what cosines are divided by
Share = Annotated[float, Ge(0), Le(1), "X"]
BelowOne = Annotated[float, Ge(0), Lt(1), "X"]
AtMost = Le  # where annotated_types is not to be imported


class UserError(ValueError):
    """Bad input. Its message is one sentence: what is wrong, where, and what to do.

    The command line prints it and exits with status 2; in Python it is an ordinary ``ValueError``.
    """


_EXTRA_OF = {
    **dict.fromkeys(("torch", "torchvision", "open_clip", "timm", "transformers"), "torch"),
    **dict.fromkeys(("safetensors", "sklearn", "scipy"), "torch"),
    **dict.fromkeys(("onnx", "onnxscript"), "onnx"),
    "onnxruntime": "onnx-runtime",
}


def not_installed(error: ImportError) -> UserError | None:
    """What to install where a package is missing that an extra brings; None for other packages."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRA_OF:
        return None
    return UserError(
        f"{package} is not installed, which this needs; in a clone of t2ipal run: "
        f"pip install '.[{_EXTRA_OF[package]}]'"
    )


def nearest(word: str, options: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the option closest to ``word``, or an empty string."""
    found = difflib.get_close_matches(word, list(options), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first ``most`` names, quoted, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[Group]) -> type[Group]:
    """Make ``cls`` a frozen pydantic dataclass whose values are checked, strictly, when made.

    In an annotation, beside bounds, a string of capitals is the placeholder that help shows (FILE),
    and another string says what else to do where a value is out of bounds. A method ``_check`` of a
    group, and of each group it is composed of, checks values together. A bad value is a
    :class:`UserError`.
    """
    from pydantic import ConfigDict, ValidationError
    from pydantic.dataclasses import dataclass

    config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
    cls.__post_init__ = _check_together  # type: ignore[attr-defined]
    made: Any = dataclass(cls, frozen=True, config=config)
    checked = made.__init__

    def __init__(self: Any, *args: Any, **values: Any) -> None:
        try:
            checked(self, *args, **values)
        except ValidationError as error:
            name = type(self).__name__
            raise _user_error(type(self), error, lambda key: f"{name}.{key}") from None

    made.__init__ = __init__
    return cast(type[Group], made)


def _check_together(self: Any) -> None:
    for group in type(self).__mro__:
        if check := vars(group).get("_check"):
            check(self)


def read_settings(
    cls: type[Group],
    mapping: Mapping[str, Any],
    named: Callable[[str], str] = str,
) -> Group:
    """The settings ``cls`` with the values of a mapping such as YAML holds, groups as mappings.

    Args:
        named: how an error calls a key, such as ``head.adapter.beta``; a text that ends in
            ``": "`` comes in front of the sentence, as a file and its line do.

    Raises:
        UserError: an unknown key, or a value that is not allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        text = json.dumps(mapping, default=str, ensure_ascii=False)
        known = text.translate(_STAND_INS)
        read = TypeAdapter(cls).validate_json(known)
    except ValidationError as error:
        raise _user_error(cls, error, named) from None
    return read if known == text else _with_bytes(read)


# Python's code points for bytes of file names that are no UTF-8, and private ones, as JSON has none
_STAND_INS = {0xDC00 + byte: 0x10FF00 + byte for byte in range(0x80, 0x100)}
_BYTES = {stand_in: byte for byte, stand_in in _STAND_INS.items()}


def _with_bytes(value: Any) -> Any:
    """Settings, or a value of one, with bytes for their stand-ins."""
    if isinstance(value, str):
        return value.translate(_BYTES)
    if isinstance(value, Path):
        return Path(str(value).translate(_BYTES))
    if isinstance(value, tuple):
        return tuple(map(_with_bytes, value))
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            object.__setattr__(value, field.name, _with_bytes(getattr(value, field.name)))
    return value


def settings_of(cls: type[Group], owner: object) -> Group:
    """The settings ``cls`` with the values of an object that has attributes of these names."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: getattr(owner, name) for name in names if hasattr(owner, name)})


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of a group of settings.

    Attributes:
        key: its name, those of the groups it is in before it: ``head.adapter.beta``.
        group: the class that declares it.
        help: its docstring, on one line.
        default: its default; ``dataclasses.MISSING`` if it must be given.
        type: bool, int, float, str, Path, or another class.
        several: whether it is a list of these.
        choices: the only values, if there are only some.
        placeholder: what stands for a value in help.
        allowed: what a value must be, in words.
        instead: what else to do where a value is out of bounds.
    """

    key: str
    group: type
    help: str
    default: Any
    type: Any
    several: bool
    choices: tuple[str, ...]
    placeholder: str
    allowed: str
    instead: str


def options_of(cls: Any, prefix: str = "") -> Iterator[Option]:
    """The fields of a group of settings and of the groups in it, in their order."""
    for field in dataclasses.fields(cls):
        option = _option(cls, field, prefix)
        if dataclasses.is_dataclass(option.type):
            yield from options_of(option.type, f"{option.key}.")
        else:
            yield option


def _option(cls: type, field: dataclasses.Field[Any], prefix: str) -> Option:
    info = cls.__pydantic_fields__[field.name]  # type: ignore[attr-defined]
    group = next(one for one in cls.__mro__ if field.name in vars(one).get("__annotations__", ()))
    text = group.__pydantic_fields__[field.name].description or ""  # type: ignore[attr-defined]
    default = info.get_default(call_default_factory=True)
    if info.is_required():
        default = dataclasses.MISSING
    kind, several, marks = _unwrapped(info.annotation, list(info.metadata))
    words = [mark for mark in marks if isinstance(mark, str)]
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    placeholder = [word for word in words if word.isupper()] or ["NAME"]
    return Option(
        key=prefix + field.name,
        group=group,
        help=" ".join(text.split()),
        default=default,
        type=str if choices else kind,
        several=several,
        choices=choices,
        placeholder=placeholder[-1],
        allowed=_allowed(kind, choices, marks),
        instead=next((word for word in words if not word.isupper()), ""),
    )


def _unwrapped(annotation: Any, marks: list[Any]) -> tuple[Any, bool, list[Any]]:
    """The type itself, whether it is a list of it, and all that is annotated; None is no type."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _unwrapped(inner[0], [*marks, *inner[1:]])
    if origin in (typing.Union, types.UnionType):
        return _unwrapped(next(one for one in inner if one is not type(None)), marks)
    if origin is tuple:
        kind, _, marks = _unwrapped(inner[0], marks)
        return kind, True, marks
    return annotation, False, marks


def _allowed(kind: Any, choices: Sequence[str], marks: Iterable[Any]) -> str:
    if choices:
        return f"one of {', '.join(choices)}"
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Path: "a path",
    }
    if kind not in words:
        return "a group of settings"
    limits: dict[type, Any] = {type(mark): mark for mark in marks if isinstance(mark, _LIMITS)}
    if Le in limits and limits[Le].le >= _FAR:
        del limits[Le]
    if multiple := limits.get(MultipleOf):
        most = f" up to {limits[Le].le}" if Le in limits else ""
        return f"a positive multiple of {multiple.multiple_of}{most}"
    end = f"{limits[Le].le}" if Le in limits else f"below {limits[Lt].lt}" if Lt in limits else ""
    if low := limits.get(Ge):
        return words[kind] + (f" from {low.ge} to {end}" if end else f" of at least {low.ge}")
    if low := limits.get(Gt):
        return words[kind] + f" above {low.gt}" + (f" and at most {end}" if end else "")
    return words[kind]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_LIMITS = (Ge, Gt, Le, Lt, MultipleOf)


def _user_error(cls: Any, error: ValidationError, named: Callable[[str], str]) -> UserError:
    """The first mistake as one sentence."""
    found = error.errors(include_url=False)[0]
    steps = [str(step) for step in found["loc"]]
    key, own, option = "", cls, None
    for step in steps:
        fields = {field.name: field for field in dataclasses.fields(own)}
        if step not in fields:
            break
        option = _option(own, fields[step], f"{key}." if key else "")
        key = option.key
        if not dataclasses.is_dataclass(option.type):
            break
        own = option.type
    kind, cause = found["type"], found.get("ctx", {}).get("error")
    unknown = kind in ("unexpected_keyword_argument", "extra_forbidden")
    where, colon, name = named(".".join(steps) if unknown else key).rpartition(": ")
    if unknown:
        hint = nearest(steps[-1], [field.name for field in dataclasses.fields(own)])
        text = f"unknown key {name!r}{hint}"
    elif option is None or (cause is not None and dataclasses.is_dataclass(option.type)):
        text = str(cause or found["msg"]).rstrip(".")  # of a group's _check
    elif kind.startswith("missing"):
        text = f"{name} is missing"
    elif cause is not None:
        text = f"{name} {cause}".rstrip(".")
    else:
        value, allowed = found["input"], option.allowed
        if option.several and not isinstance(found["loc"][-1], int):
            allowed = "a list"
        if kind == "less_than_equal" and found["ctx"]["le"] >= _FAR:
            allowed = f"at most {found['ctx']['le']}"
        hint = nearest(value, option.choices) if isinstance(value, str) else ""
        instead = f"; {option.instead}" if option.instead else ""
        text = f"{name} must be {allowed}, not {_SHORT.repr(value)}{hint}{instead}"
    return UserError(f"{where}{colon}{text}.")
