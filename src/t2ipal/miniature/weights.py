"""Where the packaged models lie: what ``--clip miniature`` and ``--generator miniature`` mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

from t2ipal.errors import UserError
from t2ipal.files import write_text

MODELS = Path(__file__).parent / "models"
_FOLDERS = {"clip": "open_clip_model.safetensors", "generator": "model_index.json"}


def path(model: Literal["clip", "generator"]) -> Path:
    """The folder of a packaged model.

    Raises:
        UserError: the installed package lacks it.
    """
    folder = MODELS / model
    if not (folder / _FOLDERS[model]).is_file():
        raise UserError(
            f"{folder}: the packaged miniature {model} is missing; reinstall t2ipal, or train it "
            "with 'python -m tools.miniature'."
        )
    return folder


def install(model: Literal["clip", "generator"], trained: Path) -> Path:
    """Make a trained model the packaged one; the one before is removed.

    Raises:
        UserError: ``trained`` holds no such model.
    """
    if not (trained / _FOLDERS[model]).is_file():
        raise UserError(f"{trained}: holds no trained {model}; run its stage to the end first.")
    new = MODELS / f".{model}.partial"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(trained, new)
    for config in new.rglob("config.json"):  # diffusers notes the folder a part was loaded from
        kept = json.loads(config.read_text(encoding="utf-8"))
        if kept.pop("_name_or_path", None) is not None:
            write_text(config, json.dumps(kept, indent=2) + "\n")
    shutil.rmtree(MODELS / model, ignore_errors=True)
    return new.rename(MODELS / model)
