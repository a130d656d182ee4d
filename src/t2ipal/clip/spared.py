"""open_clip without the libraries that most of its models do not need.

``import open_clip`` also imports transformers and timm, which are optional to it, and torchvision
the compiler of PyTorch: two thirds of the time before the first image is looked at. The command
line, whose process is its own, leaves them out; what needs one afterwards gets it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_OPTIONAL = ("transformers", "timm")
_COMPILER = "torch._dynamo.utils"


def spare_imports() -> None:
    """From now on the first import of open_clip leaves out what it can do without."""
    sys.meta_path.insert(0, _Finder())


def complete_timm() -> None:
    """Give open_clip the timm that was left out, for a model with a tower of timm's."""
    module = importlib.import_module("open_clip.timm_model")
    if module.timm is None:
        tower = module.TimmModel  # which others have imported; its methods see the new globals
        with _undecorated():
            importlib.reload(module)
        module.TimmModel = tower  # type: ignore[attr-defined]


@contextmanager
def _undecorated() -> Iterator[None]:
    """``torch.compiler.disable`` does nothing; as a decorator it imports the compiler.

    timm decorates parts of a few towers of its own with it, and no tower is compiled here.
    """
    import torch

    decorate = torch.compiler.disable
    torch.compiler.disable = lambda fn=None, recursive=True, *, reason=None: fn
    try:
        yield
    finally:
        torch.compiler.disable = decorate


class _Finder(MetaPathFinder):
    """Finds open_clip, once, and executes it while the others are out of sight."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "open_clip":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _out_of_sight():
                    execute(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def _out_of_sight() -> Iterator[None]:
    """Optional libraries raise ImportError, and torchvision's one use of the compiler waits."""
    later = ModuleType(_COMPILER)
    later.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    later.__getattr__ = _of_the_compiler  # type: ignore[method-assign]
    hidden: dict[str, Any] = {**dict.fromkeys(_OPTIONAL), _COMPILER: later}
    hidden = {name: stand_in for name, stand_in in hidden.items() if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name, stand_in in hidden.items():
            if name in sys.modules and sys.modules[name] is stand_in:
                del sys.modules[name]


def _is_compile_supported(device: str) -> bool:
    return bool(_of_the_compiler("is_compile_supported")(device))


def _of_the_compiler(name: str) -> Any:
    """What the real module has, imported now."""
    if name.startswith("__"):
        raise AttributeError(name)
    if not hasattr(sys.modules.get(_COMPILER), "__file__"):
        sys.modules.pop(_COMPILER, None)
    return getattr(importlib.import_module(_COMPILER), name)
