"""A run's folder: whose it is, what its products were made from, and its log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from t2ipal.errors import UserError
from t2ipal.files import LOCK, write_text
from t2ipal.files.tables import refuse_special
from t2ipal.files.yaml_files import read_yaml
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.store import ImageStore
from t2ipal.runs.config import RunConfig
from t2ipal.runs.real_images import SCENES

MADE_FROM = "made_from.json"
# Settings that decide what generated images show, and those that do if CLIP inspects them.
_OF_IMAGES = {field.name for field in fields(Settings)} - {"device"}
_OF_IMAGES |= {"generator", "revision", "seed", "inspect"}
_INSPECTED = {"patience", "clip", "image_size", "resize_mode"}


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
        if out.exists() and any(
            entry.name not in beside and not entry.name.startswith(LOCK) for entry in out.iterdir()
        ):
            raise UserError(f"{out}: is not empty and holds no {kind}; choose another --out.")
        return
    if identity is None:
        return
    for key, change in _changes(out / file, identity).items():
        if key not in free:
            raise UserError(
                f"{out}: holds a {kind} with another {key} ({change}); choose another --out, or "
                "delete the folder to start anew."
            )


def changed_settings(config: RunConfig, out: Path, *, overwrite: bool = False) -> list[str]:
    """The settings that differ from those of a run folder's last start, in words.

    Raises:
        UserError: ``out`` holds something else, or images that other settings would replace, which
            ``overwrite`` allows.
    """
    refuse_foreign(out, "config.yaml", "run", None, beside={SCENES})
    if not (out / "config.yaml").exists():
        return []
    changed = _changes(out / "config.yaml", config.to_dict())
    store = ImageStore(out)
    if not overwrite and (store.manifest.exists() or store.journals()):
        decides = _OF_IMAGES | (_INSPECTED if config.inspect else set())
        if key := next((key for key in changed if key in decides), None):
            raise UserError(
                f"{out}: its images were generated with another {key} ({changed[key]}); choose "
                "another --out, or give --overwrite to generate them anew."
            )
    return [f"{key} ({change})" for key, change in changed.items()]


def _changes(path: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """What differs between the settings in a YAML or JSON file and these: key -> in words."""
    old, new = _flat(read_yaml(path)), _flat(json.loads(json.dumps(settings)))
    return {
        key: f"{_short(old.get(key))}, now {_short(new.get(key))}"
        for key in {**new, **old}
        if old.get(key) != new.get(key)
    }


def made_from(out: Path) -> dict[str, str]:
    """Product -> digest of all that it was made from; one that was interrupted is not there."""
    path = out / MADE_FROM
    return dict(read_yaml(path)) if path.exists() else {}


def note_made(out: Path, product: str, digest: str | None) -> None:
    """Note what a product was made from, or with None that it is about to be made anew."""
    noted = made_from(out) | {product: digest}
    kept = {key: value for key, value in noted.items() if value is not None}
    write_text(out / MADE_FROM, json.dumps(kept, indent=1) + "\n")


def logged(say: Callable[[str], None], path: Path) -> Callable[[str], None]:
    """``say`` that also writes each line, with the time, at the end of a file, if it can."""
    refused = False

    def say_and_write(line: str) -> None:
        nonlocal refused
        try:
            if path.is_symlink():
                raise UserError("it is a link")
            refuse_special(path)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        except (OSError, UserError) as error:
            if not refused:
                say(f"{path}: no log is kept ({getattr(error, 'strerror', error)})")
            refused = True
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
