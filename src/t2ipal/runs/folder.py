"""A run's folder: whose it is, and its log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from t2ipal.errors import UserError
from t2ipal.files import read_yaml


def refuse_foreign(
    out: Path,
    file: str,
    kind: str,
    identity: Mapping[str, Any] | None,
    *,
    free: Collection[str] = (),
    beside: Collection[str] = (),
) -> None:
    """Raise a UserError if a folder holds another run than this one, or something else.

    Args:
        file: in which the folder's own run is described, as YAML or JSON.
        kind: what a run is called in messages.
        identity: what must be the same for a run to resume, groups within groups included; None
            if only the kind matters.
        free: keys that change no stored result, those of a group as ``group.key``.
        beside: entries that may be there before the run is.
    """
    if not (out / file).exists():
        if out.exists() and any(entry.name not in beside for entry in out.iterdir()):
            raise UserError(f"{out}: is not empty and holds no {kind}; choose another --out.")
        return
    if identity is None:
        return
    old, new = _flat(read_yaml(out / file)), _flat(json.loads(json.dumps(identity)))
    for key in {**new, **old}:
        before, now = old.get(key), new.get(key)
        if key not in free and before != now:
            raise UserError(
                f"{out}: holds a {kind} with another {key} ({_short(before)}, now {_short(now)}); "
                "choose another --out, or delete the folder to start anew."
            )


def logged(say: Callable[[str], None], path: Path) -> Callable[[str], None]:
    """``say`` that also writes each line, with the time, at the end of a file."""

    def say_and_write(line: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        say(line)

    return say_and_write


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Groups within groups as ``group.key``."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else "other settings"
