"""Kills of a run on a Ray cluster of two workers, and of the workers themselves.

A worker that is killed is replaced by Ray, and its unit goes to the next one; a run that is killed
is started again. Either way the folder must be that of one process, byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.chaos.attempts import NOTHING, Attempt, Plan
from tools.chaos.stages import STAGES, Stage

_ON_RAY = STAGES["generate"] + " --engine ray --workers 2"
_CLUSTER = """
import sys, ray
ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def torment(count: int, seed: int, done: set[Any], given: Path, scratch: Path) -> Iterator[Any]:
    """A row per folder: killed once or twice, every other time a worker of it."""
    stage = Stage("generate", STAGES["generate"], given, scratch).measure()
    with _ray_cluster():
        out = stage.folder("on-ray")
        whole = Attempt(stage.command(out, _ON_RAY), out, scratch, NOTHING, 300).wait()
        if whole.status:
            raise SystemExit(f"on Ray: the undisturbed run failed: {whole.said}")
        for number in range(count):
            if ("ray", seed, "generate", number) in done:
                continue
            chance = random.Random(f"{seed} ray {number}")
            out = stage.folder("on-ray")
            row = _killed(stage, out, number, chance, whole.seconds)
            yield {"stage": "generate", "number": number, "megabytes": 0, **row}


def _killed(
    stage: Stage, out: Path, number: int, chance: random.Random, takes: float
) -> dict[str, Any]:
    faults, hits, what = list[str](), 0, ""
    plan = Plan(sign=signal.SIGKILL, after=chance.uniform(0, takes)) if number % 2 else NOTHING
    run = Attempt(stage.command(out, _ON_RAY), out, stage.scratch, plan, 20 * takes)
    if plan is NOTHING:
        what = "SIGKILL of a worker"
        hits += _kill_a_worker(run, out, chance)
    ended = run.wait()
    hits += ended.status == -signal.SIGKILL
    faults += ended.faults
    if ended.status not in (0, -signal.SIGKILL):
        faults.append(f"status {ended.status}: {ended.said[-300:]}")
    if ended.status:
        ended = Attempt(stage.command(out, _ON_RAY), out, stage.scratch, NOTHING, 20 * takes).wait()
        faults += ended.faults
        if ended.status:
            faults.append(f"the next start ended with {ended.status}: {ended.said[-300:]}")
    if different := stage.differences(out):
        faults.append(f"differs: {', '.join(different)}")
    shutil.rmtree(out)
    return {"what": what or f"{plan} of the run", "faults": faults, "hits": hits}


def _kill_a_worker(run: Attempt, out: Path, chance: random.Random) -> bool:
    """Once workers generate; False if the run has ended before."""
    while os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if workers := _workers(out):
            time.sleep(chance.uniform(0, 0.2))
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
                return True
        time.sleep(0.01)
    return False


def _workers(out: Path) -> list[int]:
    """The living processes that have a journal in ``out``."""
    found = []
    for journal in out.glob("images.partial.ray-*.jsonl"):
        pid = int(journal.name.split("-")[1])
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and command.read_bytes().startswith(b"ray::"):
            found.append(pid)
    return found


@contextmanager
def _ray_cluster() -> Iterator[None]:
    """A cluster of this machine with two processors, in processes of its own."""
    command = [sys.executable, "-c", _CLUSTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        os.environ["RAY_ADDRESS"] = cluster.stdout.readline().decode().strip()
        os.environ["RAY_AUTH_MODE"] = "token"  # Ray keeps one for the clusters that it makes itself
        yield
        del os.environ["RAY_ADDRESS"], os.environ["RAY_AUTH_MODE"]
        cluster.stdin.close()
