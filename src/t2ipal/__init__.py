"""t2ipal: class names and captions in, a multi-label image tagger out, without annotated photos.

The five names below are the whole public API. They are imported when first used, so that
``import t2ipal`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2ipal.captions.labelled import label_captions
    from t2ipal.generation.generate import generate
    from t2ipal.runs.fitting import train
    from t2ipal.tagger.scoring import evaluate
    from t2ipal.tagger.tagger import Tagger

__all__ = ["Tagger", "evaluate", "generate", "label_captions", "train"]

_HOMES = {
    "Tagger": "t2ipal.tagger.tagger",
    "evaluate": "t2ipal.tagger.scoring",
    "generate": "t2ipal.generation.generate",
    "label_captions": "t2ipal.captions.labelled",
    "train": "t2ipal.runs.fitting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 't2ipal' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
