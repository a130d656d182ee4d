"""A verb imports what it needs: modules are counted, because seconds depend on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TinyRun

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "cat.jpg"
COMPILER = ("torch._dynamo", "torch._inductor")
FITTING = ("sklearn", "scipy", "pandas", "pyarrow")
GENERATING = ("diffusers", "accelerate", "datasets", "ray")


def modules_of(*words: str) -> tuple[set[str], str]:
    """The modules that a command has imported when it ends, and what it said on its way."""
    code = (
        "import sys; sys.argv[0] = 't2ipal'; from t2ipal.cli import main; main()\n"
        "print('modules', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120
    )
    said, _, modules = done.stdout.rpartition("modules ")
    assert modules, done.stderr
    return set(modules.split()), said + done.stderr


def test_predict_imports_neither_compiler_nor_tokenizer_nor_what_fits() -> None:
    modules, said = modules_of("predict", "photo", str(PHOTO))
    assert "cat.jpg  cat " in said
    assert "torch" in modules
    unneeded = (*COMPILER, *FITTING, *GENERATING, "transformers", "onnxruntime", "t2ipal.runs")
    assert not modules & set(unneeded)
    assert len(modules) < 2300


def test_eval_imports_no_more(tiny_run: TinyRun, tmp_path: Path) -> None:
    model, cache = str(tiny_run.folder / "model"), str(tmp_path)
    modules, said = modules_of("eval", model, "--data", "miniature:20", "--features", cache)
    assert "mAP" in said
    assert not modules & {*COMPILER, *FITTING, *GENERATING, "timm", "onnxruntime"}


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "nowhere/model", "--data", "photos"),
        ("predict", "nowhere.onnx", "a.jpg"),
        ("predict", "photo", "nowhere.jpg"),
        ("train", "--labelled-captions", "nowhere.jsonl", "--out", "x"),
        ("--help",),
        ("predict", "--help"),
    ],
)
def test_a_mistyped_path_and_help_are_answered_without_pytorch(words: tuple[str, ...]) -> None:
    modules, said = modules_of(*words)
    assert said and not modules & {"torch", "open_clip", "numpy.testing", *FITTING}
    assert len(modules) < 700
