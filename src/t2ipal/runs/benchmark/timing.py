"""Seconds of each stage, over all starts of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2ipal.files import write_text


class Timings:
    """Seconds by stage, kept in a file, so that a resumed run counts what it did before.

    A stage that is killed without warning loses the seconds of that start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        if path.exists():
            self.seconds = json.loads(path.read_text(encoding="utf-8"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what the block takes to the stage ``name``, even if it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 2)
            write_text(self.path, json.dumps(self.seconds, indent=1) + "\n")
