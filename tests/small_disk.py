"""A file system that is soon full, for tests that run as root on Linux."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount ``size`` (as 256k) of memory on ``folder``; yields what gives it another size."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small-disk", str(folder)]
    try:
        subprocess.run(options, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system can be mounted only by root on Linux")

    def resize(size: str) -> None:
        remount = ["mount", "-o", f"remount,size={size}", str(folder)]
        subprocess.run(remount, check=True, capture_output=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
