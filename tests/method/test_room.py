"""The room is the paper in tensors: it knows no CLIP library, no diffusion library and no files."""

from __future__ import annotations

import ast
from pathlib import Path

import t2ipal.method

ALLOWED = {"__future__", "collections", "contextlib", "dataclasses", "functools", "logging", "math"}
ALLOWED |= {"t2ipal", "torch", "typing"}


def test_imports() -> None:
    files = sorted(Path(t2ipal.method.__file__).parent.glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                assert module.split(".")[0] in ALLOWED, f"{file.name} imports {module}"
                if module.startswith("t2ipal"):
                    # The one average precision, which is numpy and nothing more.
                    inside = ("t2ipal.method", "t2ipal.errors", "t2ipal.metrics.ranking")
                    assert module.startswith(inside), f"{file.name} imports {module}"


def test_methods_and_settings_are_known_without_torch() -> None:
    """The command line names them in its help, which must not wait for torch."""
    folder = Path(t2ipal.method.__file__).parent
    for name in ("__init__.py", "methods.py", "head_config.py", "train_config.py"):
        assert "torch" not in (folder / name).read_text().replace("t2ipal", "")
