"""tools/chaos: a short part of it, each part of which would find what it looks for."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools.chaos.inputs import MAKERS, damage, try_reader
from tools.chaos.stages import Stage, tree

from t2ipal.errors import UserError

EACH = 12  # damaged inputs of each kind
SLOW = {"tagger folders", "CLIP folders", "measurements"}  # they load models, or need a whole run


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in SLOW])
def test_damaged_inputs_are_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    for number, target in enumerate(MAKERS[name](tmp_path)):
        folder = tmp_path / str(number)
        for file, content in target.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        whole = try_reader(target.read, folder)
        assert whole == (False, "") or "generator" in name, "it takes what is whole"
        for turn in range(EACH):
            chance = random.Random(f"{name} {number} {turn}")
            file = chance.choice(target.damaged)
            (folder / file).write_bytes(damage(target.files[file], chance))
            assert try_reader(target.read, folder)[1] == "", f"{file}, turn {turn}"
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(target.files[file])


def test_a_reader_that_raises_anything_else_is_found(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise UserError("no.")

    def break_down(folder: Path) -> None:
        raise KeyError("x")

    assert try_reader(refuse, tmp_path) == (True, "")
    assert "KeyError" in try_reader(break_down, tmp_path)[1]


def test_damage_depends_on_its_chance_alone_and_changes_something() -> None:
    content = json.dumps({"a": [1, 2, {"b": "c"}]}).encode()
    twice = [[damage(content, random.Random(n)) for n in range(50)] for _ in range(2)]
    assert twice[0] == twice[1]
    assert sum(one != content for one in twice[0]) > 45 and len({*twice[0]}) > 40


def test_every_file_that_is_other_than_it_should_be_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    for name in ("same", "other", "lost", "log"):
        (out / name).write_text(str(out))
    stage = Stage("x", "", tmp_path, tmp_path, tree(out, out), {"log"})
    assert stage.differences(out) == []
    (out / "other").write_text("x")
    (out / "log").write_text("x")
    (out / "lost").unlink()
    (out / "sub" / ".left.partial").touch()
    assert stage.differences(out) == ["+ sub/.left.partial", "- lost", "~ other"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="attempts are forked")
def test_a_few_kills_refusals_and_pairs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.chaos", "kills", "refusals", "pairs", "--count", "4"]
    command += ["--stages", "embed", "pack", "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and {row["part"] for row in rows} == {"kills", "refusals", "pairs"}
    assert sum(row["hits"] for row in rows if row["part"] == "kills") >= 3
    assert "| kills | **all** | 4 |" in ended.stdout
    shutil.rmtree(tmp_path / "given")  # the same command finds everything done
    again = subprocess.run([*command, "--table"], capture_output=True, text=True, check=False)
    assert again.stdout.splitlines()[-1] == ended.stdout.splitlines()[-1]
