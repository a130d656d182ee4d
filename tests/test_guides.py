"""The commands and the Python of every guide run as they stand, one after the other."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from t2ipal.cli import main

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_can_be_followed(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for kind, code in _BLOCK.findall(guide.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(code, guide.name, "exec"), {})
            continue
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["t2ipal"]:
                assert main(words[1:]) == 0, f"{line}\n{capsys.readouterr().err}"
            elif words:
                subprocess.run(["bash", "-c", line], check=True)
