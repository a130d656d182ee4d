"""Whose a run folder is: the one benchmark that may go on in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t2ipal.errors import UserError
from t2ipal.files import sha256_file, write_text
from t2ipal.runs.benchmark.setting import BenchmarkConfig

IDENTITY = "benchmark.json"
REHEARSED_DATA = "data"
_FREE = ("batch_size", "device")


def identity_of(
    config: BenchmarkConfig, folder: Path, captions: Path | None, rehearsal: bool
) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    return {
        "configuration": config.name,
        "rehearsal": rehearsal,
        "data": str(folder.resolve()),
        "captions": None if captions is None else sha256_file(captions),
        "setting": config.to_dict(),
    }


def refuse_foreign(out: Path) -> None:
    """Raise a UserError if the folder holds something else than a benchmark and rehearsal data."""
    if (out / IDENTITY).exists() or not out.exists():
        return
    if any(entry.name != REHEARSED_DATA for entry in out.iterdir()):
        raise UserError(f"{out}: is not empty and holds no benchmark; choose another --out.")


def refuse_another(out: Path, identity: dict[str, Any]) -> None:
    """Raise a UserError if the folder holds another benchmark, or something else."""
    refuse_foreign(out)
    if not (out / IDENTITY).exists():
        return
    old = json.loads((out / IDENTITY).read_text(encoding="utf-8"))
    for key in identity:
        if key != "setting" and old.get(key) != identity[key]:
            raise UserError(f"{out}: holds a benchmark with other {key}; choose another --out.")
    for key, value in identity["setting"].items():
        if key not in _FREE and old["setting"].get(key) != value:
            raise UserError(
                f"{out}: holds a benchmark with another {key}; choose another --out, or delete the "
                "folder to start anew."
            )


def write_identity(out: Path, identity: dict[str, Any]) -> None:
    """Make the folder this benchmark's."""
    write_text(out / IDENTITY, json.dumps(identity, indent=1, ensure_ascii=False) + "\n")
