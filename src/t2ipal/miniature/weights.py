"""Where the packaged models lie: what ``--clip miniature`` and ``--generator miniature`` mean."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from t2ipal.errors import UserError

MODELS = Path(__file__).parent / "models"
MADE_FOR = {"images": "icon scenes, not photos", "size": [64, 64]}
"""What the packaged CLIP knows: the world's images, and their width and height in pixels."""
MAIN_FILES = {"clip": "open_clip_model.safetensors", "generator": "model_index.json"}


def path(model: Literal["clip", "generator"]) -> Path:
    """The folder of a packaged model.

    Raises:
        UserError: the installed package lacks it.
    """
    folder = MODELS / model
    if not (folder / MAIN_FILES[model]).is_file():
        raise UserError(
            f"{folder}: the packaged miniature {model} is missing; reinstall t2ipal, or train it "
            "with 'python -m tools.miniature'."
        )
    return folder
