"""Every command of README and docs: run here as it stands, or listed with the reason why not.

The shell blocks of a page are run by bash, one after another, in a folder with the inputs that they
name. ``t2ipal`` is there a program that hands its arguments to this process, which spares the
seconds that each start of Python takes; models come from the hub on the loopback address.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import open_clip
import pytest
from PIL import Image

from conftest import TinyRun
from hub_models import GATED, GENERATORS, put_clips, put_generator
from loopback_hub import Hub, serving
from t2ipal.captions.labelled import label_captions
from t2ipal.cli import main
from t2ipal.datasets import official
from t2ipal.files import write_jsonl
from t2ipal.generation.diffusion.settings import PRESETS
from t2ipal.generation.store import read_manifest
from t2ipal.miniature import official_layouts
from t2ipal.vocabulary import Vocabulary

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "guides"  # tests/test_guides.py follows these
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").rglob("*.md")) - set(GUIDES.glob("*")))]

NOT_RUN = {
    r"^make (run|test)": "is what runs the tests, or takes minutes; a smaller run of the same "
    "stages is in tests/runs/test_pipeline.py",
    r"pip install|^PIP_EXTRA_INDEX_URL": "installs packages; tests/tools/test_install.py compares "
    "what they are",
    r"^ray start|RAY_ADDRESS|--engine ray": "needs a cluster, which tests/parallel/test_cluster.py "
    "starts",
    r"^#SBATCH": "is read by SLURM",
    r"^t2ipal benchmark --rehearse": "tests/runs/benchmark/test_benchmark.py rehearses all three",
    r"^t2ipal .* ORG/NAME": "tests/tagger/test_publish.py pushes, and predicts with what it pushed",
    r"^t2ipal data ": "tests/datasets/test_fetch.py fetches small archives",
    r"^t2ipal calibrate ": "tests/tagger/test_calibration.py has small labelled photos",
    r"^t2ipal add-class |--query": "tests/tagger/test_growing.py has small taggers",
    r"^t2ipal suggest ": "tests/tagger/test_suggesting.py has small taggers",
    r"^t2ipal export |tagger\.onnx": "tests/tagger/test_onnx.py exports and compares",
    r"^t2ipal studio|runs/tagger-1": "runs until it is ended; tests/cli/test_studio.py starts it",
    r"^t2ipal eval tagger --data miniature": "renders a thousand scenes; tests/cli/test_cli.py "
    "evaluates on fewer",
    r"--compose 500 --clip photo": "takes a minute and needs no model of "
    "a hub; tests/tagger/test_packaged.py has that CLIP",
    r"^(OMP_NUM_THREADS=1 )?python tools/ablation\.py": "takes hours; tests/tools/test_ablation.py",
    r"^python tools/label_quality\.py|^python -m tools\.": "needs data that is not in this "
    "repository, or trains for hours",
    r"^W=work; P=|^\$P ": "trains the demonstration world's models for hours; "
    "tests/tools/test_pretrain.py has the parts",
}
"""Commands that are not run, by a pattern, with the reason."""

VERBATIM_BUT = {"/data/": "data/", "/shared/": "shared/", "--compose 2000": "--compose 60"}
"""Absolute paths of the pages lie in the folder of the test, and 2,000 images are many for one."""

CAPTIONS = (
    "a cat and a dog lie on the sofa beside a potted plant",
    "an aeroplane flies over a boat and a bird",
    "a man rides his bicycle past a bus, a car and a motorbike",
    "a cow, a sheep and a horse stand near the train",
    "a bottle stands on the dining table in front of a chair and a tv monitor",
    "two dogs and a cat sleep under a chair",
    "a woman feeds a horse and a cow next to a car",
    "birds sit on a boat, a train passes with people",
)

_SHIM = """\
#!{python} -SE
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
stream = link.makefile("rwb")
asked = {{"arguments": sys.argv[1:], "folder": os.getcwd()}}
stream.write(json.dumps(asked).encode() + b"\\n")
stream.flush()
answer = json.loads(stream.readline())
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["status"])
"""


def _statements(page: Path) -> Iterator[str]:
    """The commands of a page's shell blocks; a loop is one."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines: list[str] = []
        depth = 0
        for line in block.replace("\\\n", " ").splitlines():
            line = " ".join(re.sub(r"(?:^|\s)#(?!SBATCH).*$", "", line).split())
            if not line:
                continue
            lines.append(line)
            depth += len(re.findall(r"(?:^|; ?)for ", line)) - len(re.findall(r"\bdone\b", line))
            if depth == 0:
                yield "\n".join(lines)
                lines = []
        assert not lines, f"{page.name}: a loop without an end"


def _reasons(statement: str) -> list[str]:
    return [why for pattern, why in NOT_RUN.items() if re.search(pattern, statement)]


def _pages_with_commands() -> list[Path]:
    return [page for page in PAGES if any(not _reasons(one) for one in _statements(page))]


def test_each_reason_is_one_for_a_command_that_is_there() -> None:
    every = [one for page in PAGES for one in _statements(page)]
    assert len(every) > 40
    for pattern, reason in NOT_RUN.items():
        assert any(re.search(pattern, one) for one in every), pattern
        for path in re.findall(r"tests/[\w/]+\.py", reason):
            assert (ROOT / path).exists(), reason
    assert not [one for one in every if len(_reasons(one)) > 1]


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with the CLIPs and generators that the pages name."""
    folder = tmp_path_factory.mktemp("shelf")
    configs = open_clip.factory._MODEL_CONFIGS
    with pytest.MonkeyPatch.context() as patch, serving(folder / "cache") as hub:
        put_clips(hub, folder, lambda name, config: patch.setitem(configs, name, config))
        for repo in GENERATORS:
            put_generator(hub, folder, repo)
        yield hub


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, tiny_run: TinyRun) -> Path:
    """The files that commands of the pages read."""
    folder = tmp_path_factory.mktemp("inputs")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    classes = re.findall(r"^```yaml\n(# classes\.yaml\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (folder / "classes.yaml").write_text(classes[0])
    for name in ("captions.txt", "captions.json", "annotations/captions_train2014.json"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        rows = [{"id": i, "image_id": i, "caption": text} for i, text in enumerate(CAPTIONS)]
        coco = json.dumps({"images": [], "annotations": rows})
        path.write_text("\n".join(CAPTIONS) if name.endswith(".txt") else coco)
    labelled = label_captions(CAPTIONS, Vocabulary.load("voc2007"))
    write_jsonl(folder / "captions.jsonl", labelled)
    _labelled_photos(folder / "photos-with-labels", ("dog", "person", "cat", "bus", "car", "boat"))
    _labelled_photos(folder / "data" / "voc2007-test", official.VOC_CLASSES)
    shutil.copytree(tiny_run.folder, folder / "runs" / "miniature")
    for name in ("configs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "photos").symlink_to(ROOT / "examples" / "photos")
    shutil.copytree(ROOT / "examples" / "photos", folder / "holiday")
    devkit = folder / "data" / "VOCdevkit"
    small = {"TEST_IMAGES": 20, "TRAIN_IMAGES_PER_THING": 2, "CAPTIONS": 8}
    small |= {"MARKED": {"test": 2, "train": 1}, "THINGS": official_layouts.THINGS[:8]}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in small.items():
            patch.setattr(official_layouts, name, value)
        official_layouts.build("voc2007", devkit)
    for path in devkit.rglob("captions_train*.json"):
        shutil.copy(folder / "captions.json", path)
    return folder


def _labelled_photos(folder: Path, classes: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image,labels"]
    for number, name in enumerate(classes * 2):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{name}")
    (folder / "labels.csv").write_text("\n".join(lines))


def _answer(asked: dict[str, list[str]]) -> dict[str, object]:
    """What the program says and how it ends, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    os.chdir(str(asked["folder"]))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(asked["arguments"])
        except SystemExit as end:
            status = int(end.code or 0)
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


def _run_shell(script: str, folder: Path, home: Path) -> tuple[int, str]:
    """Run a script by bash; its status and all that it said."""
    programs = Path(tempfile.mkdtemp(dir=home))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address := str(programs / "socket"))
        server.listen()
        server.settimeout(0.1)
        (programs / "t2ipal").write_text(_SHIM.format(python=sys.executable, address=address))
        (programs / "t2ipal").chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(home), "SLURM_ARRAY_TASK_ID": "0"}
        with (
            (programs / "said").open("w+") as said,
            subprocess.Popen(
                ["bash", "-euxc", script],
                cwd=folder,
                env=environment | {"SLURM_ARRAY_TASK_COUNT": "1"},
                stdout=said,
                stderr=said,
            ) as process,
        ):
            while process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    link, _ = server.accept()
                    with link, link.makefile("rwb") as stream:
                        link.settimeout(None)
                        answer = _answer(json.loads(stream.readline()))
                        stream.write(json.dumps(answer).encode() + b"\n")
            said.seek(0)
            return process.returncode, said.read()


@pytest.mark.parametrize("page", _pages_with_commands(), ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_they_stand(
    page: Path,
    stocked: Hub,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, home = tmp_path / "work", tmp_path / "home"
    shutil.copytree(inputs, folder, symlinks=True)
    for name in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
        (home / name).mkdir(parents=True)
    for split in official.OFFICIAL[
        "voc2007"
    ]:  # a benchmark insists on the official number of images
        ids = (folder / f"data/VOCdevkit/VOC2007/ImageSets/Main/{split}.txt").read_text().split()
        monkeypatch.setitem(official.OFFICIAL["voc2007"], split, len(ids))
    before = [one for other in PAGES[: PAGES.index(page)] for one in _statements(other)]
    for statement in _statements(page):
        if statement in before or _reasons(statement):
            continue
        for absolute, relative in VERBATIM_BUT.items():
            statement = statement.replace(absolute, relative)
        status, said = _run_shell(statement, folder, home)
        if status == 1 and (missing := re.findall(r"MISSING .* run: hf download (\S+)", said)):
            for repo in missing:  # as the doctor orders
                huggingface_hub.snapshot_download(repo)
            status, said = _run_shell(statement, folder, home)
        assert status == 0, said
        assert "Traceback" not in said, said


def test_the_table_of_presets_is_that_of_the_program() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w./-]+)` \| (.*) \|$", text, re.MULTILINE)
    found = {name: (generator, *rest.split(" | ")) for name, generator, rest in rows}
    assert found == {
        name: (
            one.generator, str(one.steps), f"{one.guidance:g}", str(one.side), one.precision,
            one.scheduler.removesuffix("Scheduler"), "yes" if one.generator in GATED else "",
        )
        for name, one in PRESETS.items()
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_generates_with_the_command_of_the_docs(
    name: str, stocked: Hub, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of docs/verification.md, with each name in the place of NAME."""
    command = "t2ipal generate --labelled-captions captions.jsonl --preset NAME --out DIR"
    assert command in (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    first = (inputs / "captions.jsonl").read_text().splitlines()[0]
    (tmp_path / "captions.jsonl").write_text(first + "\n")
    asked = len(stocked.requests)
    arguments = command.replace("NAME", name).replace("DIR", "out").split()[1:]
    assert main(arguments) == 0
    (row,) = read_manifest(tmp_path / "out")
    preset = PRESETS[name]
    with Image.open(tmp_path / "out" / row.file) as image:
        assert image.size == (preset.side, preset.side)
    assert row.generator == preset.generator
    head = stocked.repositories[preset.generator].refs["main"]
    assert row.revision == head
    assert row.settings["scheduler"] == preset.scheduler
    fetched = [one for one in stocked.requests[asked:] if one.startswith("GET /")]
    assert not [one for one in fetched if re.search(r"\.(bin|fp16\.safetensors|py)$", one)]
