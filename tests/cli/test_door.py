"""What the system does to the program: closed streams, signals, errors; and what it imports."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from conftest import TinyRun
from t2ipal.cli.door import sentence
from t2ipal.cli.speech import plain
from t2ipal.errors import UserError
from t2ipal.files import to_json_line
from t2ipal.files.tables import csv_cell, from_csv_cell
from t2ipal.generation.store import read_manifest
from t2ipal.tagger.tag_file import _csv_line

HEAVY = {
    "numpy", "pydantic", "yaml", "torch", "torchvision", "torch._dynamo", "open_clip", "timm",
    "transformers", "sklearn", "scipy", "sympy", "diffusers", "PIL",
}  # fmt: skip

MODULES = """
import runpy, sys
sys.argv = ["t2ipal", *sys.argv[1:]]
try:
    runpy.run_module("t2ipal", run_name="__main__")
finally:
    print(*sys.modules, file=sys.stderr)
"""


def imported(*arguments: str | Path, status: int = 0) -> set[str]:
    """The heavy modules that a command imports."""
    command = [sys.executable, "-c", MODULES, *map(str, arguments)]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=offline)
    assert done.returncode == status, done.stderr
    return HEAVY & set(done.stderr.split())


def test_help_imports_nothing() -> None:
    assert imported("--help") == set()


def test_label_imports_no_tensors(tmp_path: Path) -> None:
    found = imported("label", "--classes", "voc2007", "--compose", "5", "--out", tmp_path / "c")
    assert found <= {"numpy", "pydantic", "yaml"}


@pytest.mark.parametrize(
    "words",
    [
        "predict {model} none.jpg",
        "predict {folder}/none {image}",
        "predict {folder} {folder}",
        "eval {model} --data none",
        "eval {model} --data voc2007:none?split=test",
        "run --classes voc2007 --captions none.txt --out {folder}/out",
        "train --classes voc2007 --labelled-captions none --images none --out {folder}/out",
        "embed --images none --clip miniature",
        "predict owner/name {image}",
        "eval owner/name --data {folder}",
    ],
)
def test_a_mistyped_path_is_answered_before_torch_is_imported(
    words: str, tiny_run: TinyRun, tmp_path: Path
) -> None:
    image = tiny_run.folder / read_manifest(tiny_run.folder)[0].file
    model = tiny_run.folder / "model"
    filled = words.format(model=model, image=image, folder=tmp_path)
    assert not imported(*filled.split(), status=2) & {"torch", "open_clip", "sklearn"}
    assert not any(tmp_path.iterdir())


def test_predict_imports_only_what_it_needs(tiny_run: TinyRun) -> None:
    image = tiny_run.folder / read_manifest(tiny_run.folder)[0].file
    found = imported("predict", tiny_run.folder / "model", image)
    assert "open_clip" in found
    assert not found & {"torch._dynamo", "timm", "sympy", "sklearn", "scipy", "diffusers"}


SPARED = """
from t2ipal.clip.spared import complete_timm, spare_imports
spare_imports()
import open_clip, sys, torch, torchvision
from open_clip.timm_model import TimmModel
assert not {"timm", "transformers", "torch._dynamo"} & set(sys.modules)
complete_timm()
assert open_clip.timm_model.TimmModel is open_clip.model.TimmModel is TimmModel
tower = TimmModel("vit_tiny_patch16_224", 8, image_size=224, pretrained=False)
assert tower(torch.zeros(1, 3, 224, 224)).shape == (1, 8)
from torchvision.ops import roi_align
assert roi_align(torch.zeros(1, 1, 8, 8), [torch.zeros(1, 4)], 2).shape == (1, 1, 2, 2)
assert torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu") in (True, False)
import torch._dynamo.utils
assert torch._dynamo.utils.__file__
"""


def test_what_was_spared_can_still_be_had() -> None:
    done = subprocess.run([sys.executable, "-c", SPARED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LABEL = "label --classes voc2007 --captions {captions} --out {out}"


def shell(
    tmp_path: Path, redirected: str, words: str = LABEL, **environment: str
) -> tuple[int, str]:
    """The status of a command in a shell, and what it complained of."""
    captions = tmp_path / "captions.txt"
    captions.write_text("a dog\n", encoding="utf-8")
    words = words.format(captions=captions, out=tmp_path / "out.jsonl")
    command = f"'{sys.executable}' -m t2ipal {words} {redirected}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">&-", 2, "standard output: cannot be written (Bad file descriptor)"),
        (">/dev/full", 2, "standard output: cannot be written (No space left on device)"),
        ("| true", 0, ""),
        (">&- 2>&-", 2, ""),
    ],
)
def test_files_are_written_whoever_listens(
    redirected: str, status: int, said: str, tmp_path: Path
) -> None:
    found, heard = shell(tmp_path, redirected)
    assert found == status and said in heard and "Traceback" not in heard
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full"])
def test_complaints_that_cannot_be_written_are_lost_and_no_more(
    redirected: str, tmp_path: Path
) -> None:
    assert shell(tmp_path, redirected, "labl") == (2, "")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"Z\xfcrich \u72ac"), ("utf-8", "Zürich 犬")]
)
def test_output_in_another_encoding_loses_nothing(
    encoding: str, shown: str, tmp_path: Path
) -> None:
    (tmp_path / "classes.yaml").write_text("- Zürich 犬\n", encoding="utf-8")
    words = LABEL.replace("voc2007", str(tmp_path / "classes.yaml")).replace("a dog", "Zürich 犬")
    status, heard = shell(tmp_path, "", words, PYTHONIOENCODING=encoding)
    assert status == 0 and shown in heard


def test_what_the_system_refuses_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, reason in (
        (tmp_path / "file" / "out.jsonl", "File exists"),
        (Path("/proc/none/out.jsonl"), "No such file"),
        (tmp_path / ("x" * 300), "File name too long; choose a shorter name."),
    ):
        status, heard = shell(tmp_path, "", LABEL.replace("{out}", str(out)))
        assert status == 2 and heard.startswith("t2ipal: ") and heard.count("\n") == 1
        assert reason in heard


STOPPED = """
import sys, time
from pathlib import Path
from t2ipal.cli import main
from t2ipal.files import atomic_path
from t2ipal.runs import labelling

def wait(*_):
    with atomic_path(Path(sys.argv[-1])) as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(60)

labelling.labelled_captions = wait
sys.exit(main())
"""


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_nothing_half_written(sign: int, status: int, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    words = ["label", "--classes", "voc2007", "--compose", "3", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell starts what runs in the background with interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(sign)
    _, heard = process.communicate(timeout=60)
    assert process.returncode == status
    assert heard.endswith("; the same command resumes.\n") and "Traceback" not in heard
    assert not any(tmp_path.iterdir())


LOST = """
import sys, time, weakref
from t2ipal.cli import door

class Thing: pass

def lose(_):
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)  # the signal is noticed here, where Python prints what is raised and goes on

door._own_process()
thing = Thing()
kept = weakref.ref(thing, lose)
try:
    del thing
    time.sleep(20)
except door._Stopped:
    sys.exit("stopped")
"""


def test_a_signal_is_not_lost_where_nothing_can_be_raised() -> None:
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "stopped\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("x."), "x."),
        (OSError(28, "No space left on device", "a.txt"), "a.txt: No space left on device; free"),
        (PermissionError(13, "Permission denied", "b"), "b: Permission denied; check the perm"),
        (MemoryError(), "there is not enough memory"),
        (RecursionError(), "is nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "invalid start byte"),
        (SafetensorError("header too large"), "is damaged (header too large)"),
        (SafetensorError("I/O error: disk full (os error 28)"), "No space left on device; free"),
        (yaml.constructor.ConstructorError("x", None, "y", None), "is damaged"),
    ],
)
def test_errors_from_outside_are_sentences(error: Exception, said: str) -> None:
    found = sentence(error)
    assert found is not None and said in found and found.endswith(".")


def test_a_complaint_is_no_longer_than_a_page() -> None:
    found = sentence(UserError("x" * 70_000 + "; check the path."))
    assert found is not None and len(found) < 4100 and found.endswith("[...] " + found[-2000:])
    assert found.endswith("; check the path.")


def test_an_error_of_our_own_is_none() -> None:
    assert sentence(ValueError("a bug")) is None


BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    for character in plain(text):
        assert unicodedata.category(character) not in {"Cc", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in BIDI
    assert plain("\x1b[31mred\x9b\u202e\n") == r"\x1b[31mred\x9b\u202e\n"


@given(st.text(st.sampled_from("'=+-@\t\r\na,|\"\uff1d"), max_size=6))
def test_cells_are_no_formulas_and_come_back(text: str) -> None:
    assert csv_cell(text)[:1] not in {*"=+-@\t\r\n\uff1d"} - {""}
    assert from_csv_cell(csv_cell(text)) == text
    if "\r" not in text and "\n" not in text:
        (cells,) = csv.reader(io.StringIO(_csv_line(text, 0.5)))
        assert [from_csv_cell(cell) for cell in cells] == [text, "0.5"]


def test_json_has_only_characters_that_standard_output_has() -> None:
    for encoding, line in (("utf-8", '{"a": "é"}\n'), ("ascii", '{"a": "\\u00e9"}\n')):
        assert to_json_line({"a": "é"}, encoding) == line
        assert to_json_line({"a": os.fsdecode(b"\xff")}, encoding) == '{"a": "\\udcff"}\n'


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_values(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from t2ipal.cli import _VERBS, main

    assert main(["completion", name]) == 0
    script = capsys.readouterr().out
    for word in (*_VERBS, "head.adapter.beta", "jsonl", "sdxl-turbo"):
        assert word in script
    if name == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
