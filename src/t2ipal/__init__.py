"""Turn class names and captions into a multi-label image tagger, without annotated photos.

* ``Tagger``: a trained tagger; it tags images and shows where each tag was found.
* ``label_captions``: captions -> the classes that each of them names.
* ``generate``: labelled captions -> generated images on disk.
* ``train``: labelled captions and generated images -> a saved tagger.
* ``evaluate``: a tagger's mAP and F1 on labelled images.

These five names are the public interface. They are imported on first use, so that ``import t2ipal``
itself loads neither PyTorch nor anything else::

    from t2ipal import Tagger

    tagger = Tagger.from_pretrained("runs/miniature/model")
    tagger.tags("photo.jpg")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2ipal.captions.labelled import label_captions
    from t2ipal.generation.generate import generate
    from t2ipal.runs.fitting import train
    from t2ipal.tagger.scoring import evaluate
    from t2ipal.tagger.tagger import Tagger

# ONNX Runtime, which diffusers imports wherever it is installed, reports to its maker unless told
# before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = ["Tagger", "evaluate", "generate", "label_captions", "train"]

_MODULES = {
    "Tagger": "t2ipal.tagger.tagger",
    "evaluate": "t2ipal.tagger.scoring",
    "generate": "t2ipal.generation.generate",
    "label_captions": "t2ipal.captions.labelled",
    "train": "t2ipal.runs.fitting",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
