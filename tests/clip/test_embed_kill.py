"""SIGKILL while features are computed, then on: the bytes of a run that nobody disturbed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "kill.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_killed_at_random_moments() -> None:
    """A few of the kills that tools/kill.py makes; it compares the folders."""
    command = [sys.executable, str(SCRIPT), "embed", "--kills", "4", "--images", "300"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = re.search(r"4 kills, (\d) when there were files; (\d+) of (\d+) finished", ended.stdout)
    assert said is not None, ended.stdout
    assert int(said[1]) > 0 and said[2] == said[3]
