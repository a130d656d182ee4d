"""The door of the package: its names, its version, and ``python -m t2ipal``."""

from __future__ import annotations

import os
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import t2ipal

ROOT = Path(__file__).parents[1]


def test_dir_shows_the_public_names_and_nothing_of_the_machinery() -> None:
    shown = [name for name in dir(t2ipal) if not name.startswith("__")]
    assert sorted(shown) == sorted(t2ipal.__all__)
    assert {"__doc__", "__version__"} <= set(dir(t2ipal))


def test_the_docstring_and_help_name_them() -> None:
    assert t2ipal.__doc__ is not None
    for name in t2ipal.__all__:
        assert f"``{name}``" in t2ipal.__doc__
        assert getattr(t2ipal, name).__doc__
    page = pydoc.plain(pydoc.render_doc(t2ipal))
    assert "class Tagger" in page and "label_captions(" in page


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'t2ipal' has no attribute 'tag'"):
        _ = t2ipal.tag


def test_onnx_runtime_reports_to_nobody(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the runtime needs: pip install onnxruntime")
    code = "import t2ipal, onnxruntime"
    env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert list(tmp_path.iterdir()) == []  # neither a session nor a number of this machine


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, t2ipal; print([m for m in ('torch', 'numpy', 'yaml') if m in sys.modules])"
    assert _python("-c", code) == "[]\n"


def test_one_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", t2ipal.__version__)
    assert f"version: {t2ipal.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"], "it is read from t2ipal.__version__"


def test_python_dash_m() -> None:
    assert _python("-m", "t2ipal", "--help").startswith("usage: t2ipal")


def test_it_is_typed() -> None:
    assert (Path(t2ipal.__path__[0]) / "py.typed").is_file()


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_no_message_advises_to_install_this_project_from_the_package_index() -> None:
    # Nobody has registered the name there: whoever did would be installed.
    advice = re.compile(r"pip install[^.;)\n]*?\bt2ipal\b")
    assert advice.search("pip install 't2ipal[studio]'")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("src", "docs", "README.md")
        for path in [ROOT / folder, *(ROOT / folder).rglob("*")]
        if path.suffix in (".py", ".md", ".j2", ".html")
        for match in advice.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found
