"""Where the packaged models lie: what ``--clip miniature`` and ``--generator miniature`` mean."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from t2ipal.errors import UserError

_FOLDERS = {"clip": "open_clip_model.safetensors", "generator": "model_index.json"}


def path(model: Literal["clip", "generator"]) -> Path:
    """The folder of a packaged model.

    Raises:
        UserError: the installed package lacks it.
    """
    folder = Path(__file__).parent / "models" / model
    if not (folder / _FOLDERS[model]).is_file():
        raise UserError(
            f"{folder}: the packaged miniature {model} is missing; install t2ipal again, or make "
            "it with 'python -m t2ipal.miniature.pretrain'."
        )
    return folder
