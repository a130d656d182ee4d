"""Checks of settings: a UserError says which setting it is, what it must be and what it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from t2ipal.errors import UserError, nearest

Config = TypeVar("Config")


def from_mapping(cls: type[Config], mapping: Mapping[str, Any], where: str) -> Config:
    """The dataclass ``cls`` with the values of ``mapping``, groups within groups included.

    ``where`` is its name in messages. An unknown key or a bad value is a UserError.
    """
    hints = get_type_hints(cls)
    values = {}
    for key, value in mapping.items():
        if key not in hints:
            raise UserError(
                f"{where} has no setting {key!r}{nearest(str(key), hints)}; "
                f"it has {', '.join(hints)}."
            )
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise UserError(f"{where}.{key} must be a group of settings, not {value!r}.")
            value = from_mapping(hints[key], value, f"{where}.{key}")
        values[key] = value
    return cls(**values)


def choice(name: str, value: object, options: tuple[str, ...]) -> None:
    """One of ``options``."""
    if value not in options:
        hint = nearest(str(value), options)
        raise UserError(f"{name} must be one of {', '.join(options)}, not {value!r}{hint}.")


def flag(name: str, value: object) -> None:
    """A boolean."""
    if not isinstance(value, bool):
        raise UserError(f"{name} must be true or false, not {value!r}.")


def count(name: str, value: object, hint: str = "") -> None:
    """A whole number of at least 1; ``hint`` ends the message."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, not {value!r}{hint}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def positive(name: str, value: float) -> None:
    """A finite number above 0."""
    if not _is_number(value) or value <= 0:
        raise UserError(f"{name} must be a number above 0, not {value!r}.")


def not_negative(name: str, value: float) -> None:
    """A finite number of at least 0."""
    if not _is_number(value) or value < 0:
        raise UserError(f"{name} must be a number of at least 0, not {value!r}.")


def fraction(name: str, value: float, below_one: bool = False) -> None:
    """A number from 0 to 1, the 1 excluded with ``below_one``."""
    if not _is_number(value) or not 0 <= value <= 1 or (below_one and value == 1):
        end = "below 1" if below_one else "1"
        raise UserError(f"{name} must be a number from 0 to {end}, not {value!r}.")
