"""Make trained models the packaged ones (the stage ``export`` of ``python -m tools.miniature``)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

from t2ipal.errors import UserError
from t2ipal.files import write_text
from t2ipal.miniature import weights


def install(model: Literal["clip", "generator"], trained: Path) -> Path:
    """Make a trained model the packaged one; the one before is removed.

    Raises:
        UserError: ``trained`` holds no such model.
    """
    if not (trained / weights.MAIN_FILES[model]).is_file():
        raise UserError(f"{trained}: holds no trained {model}; run its stage to the end first.")
    new = weights.MODELS / f".{model}.partial"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(trained, new)
    for config in new.rglob("config.json"):  # diffusers notes the folder a part was loaded from
        kept = json.loads(config.read_text(encoding="utf-8"))
        if kept.pop("_name_or_path", None) is not None:
            write_text(config, json.dumps(kept, indent=2) + "\n")
    shutil.rmtree(weights.MODELS / model, ignore_errors=True)
    return new.rename(weights.MODELS / model)
