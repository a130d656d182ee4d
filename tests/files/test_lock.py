"""One job per folder, and nothing left of jobs that were killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.errors import UserError
from t2ipal.files import atomic_path, sweep, temporary_path, write_text
from t2ipal.files.lock import locking, one_job
from t2ipal.generation.generate import generate
from t2ipal.parallel.sharding import Shard
from t2ipal.runs.folder import refuse_foreign

HOLD = """
import sys, time
from t2ipal.files import atomic_path
from t2ipal.files.lock import one_job
with one_job(sys.argv[1], sys.argv[2] or None), atomic_path(sys.argv[1] + "/config.yaml") as path:
    path.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@contextmanager
def other_process(folder: Path, part: str = "") -> Iterator[subprocess.Popen[str]]:
    """One that holds the lock of a folder and writes there; killed at the end."""
    command = [sys.executable, "-c", HOLD, str(folder), part]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_another_job_is_refused_until_it_ends_however_it_does(tmp_path: Path) -> None:
    captions = [LabelledCaption("c", "a dog", ("dog",), (), {})]
    with other_process(tmp_path) as process:
        who = f"process {process.pid} on {socket.gethostname()}, since "
        with pytest.raises(UserError, match=who), one_job(tmp_path):
            pass
        with pytest.raises(UserError, match="another process works in this folder"):
            generate(captions, "miniature", tmp_path, shard=Shard(0, 2))
        assert len(list(tmp_path.glob(".config.*"))) == 1
    assert len(list(tmp_path.glob(".config.*"))) == 1  # of the killed one
    with one_job(tmp_path):
        refuse_foreign(tmp_path, "config.yaml", "run", None)  # a run killed at its first write
        assert [path.name for path in tmp_path.iterdir()] == [".t2ipal.lock"]
    assert not any(tmp_path.iterdir())


def test_what_a_lock_is_a_link_to_is_left_alone(tmp_path: Path) -> None:
    other, folder = tmp_path / "other", tmp_path / "out"
    other.write_text("mine")
    folder.mkdir()
    for target in (other, tmp_path / "nothing"):
        (folder / ".t2ipal.lock").symlink_to(target)
        with pytest.raises(UserError, match=r"\.t2ipal\.lock: is not the lock"), one_job(folder):
            pass
        (folder / ".t2ipal.lock").unlink()
    os.mkfifo(folder / ".t2ipal.lock")
    with pytest.raises(UserError, match="is not the lock"), one_job(folder):
        pass
    assert other.read_text() == "mine" and not (tmp_path / "nothing").exists()


def test_parts_of_a_job_run_side_by_side(tmp_path: Path) -> None:
    with other_process(tmp_path, "0-of-2"):
        with one_job(tmp_path, "1-of-2"):
            assert len(list(tmp_path.glob(".config.*"))) == 1  # of the living one
        for part in ("0-of-2", None):
            with pytest.raises(UserError, match="another process"), one_job(tmp_path, part):
                pass


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    @locking
    def work(name: str, out: Path) -> str:
        with one_job(out):
            assert (out / ".t2ipal.lock").read_text().startswith("t2ipal")
            if name:
                write_text(out / name, name)
        return name

    assert work("", out=tmp_path / "a" / "b") == "" and not any(tmp_path.iterdir())
    assert work("c", tmp_path / "a" / "b") == "c"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c"]


def test_a_process_that_shares_the_number_of_another_does_not_take_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers on one folder."""
    mine = temporary_path(tmp_path / "a.txt")
    monkeypatch.setattr("t2ipal.files._machine", lambda: "f" * 8)
    monkeypatch.setattr("t2ipal.files._TOKEN", "0" * 8)
    mine.touch()
    with atomic_path(tmp_path / "a.txt") as theirs:
        theirs.write_text("theirs")
        assert theirs != mine and mine.exists()
    sweep(tmp_path)
    assert mine.exists()  # who knows whether that machine still runs
    os.utime(mine, (0, 0))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from t2ipal.files import temporary_path; "
        "path = temporary_path(Path(sys.argv[1])); path.mkdir(); (path / 'x').touch(); "
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "scenes")])
    (tmp_path / ".mine.partial.txt").touch()
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "b.txt", "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.partial.txt", "b.txt"]


def test_long_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120 + ".jsonl")
    write_text(path, "x")
    assert path.read_text() == "x"
