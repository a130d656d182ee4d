"""Kills of the studio, of the run that it is making, and of both.

The page is called as a browser calls it. A run that is taken up again, on the page or with the
command that the page names, must be that of a studio which nobody disturbed, byte for byte; no
process may stay behind, and no uploaded photo.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from tools.chaos.attempts import KILLS, NOTHING, STATUS, Attempt, Plan
from tools.chaos.stages import Stage, tree

_NAME = "made"
_CAPTIONS = "A dog.\nA cat.\nA dog and a cat.\nA cat."
_FIELDS = (_NAME, "dog\ncat", _CAPTIONS, "none", "miniature", None, 1, False, False)
_VICTIMS = ("studio", "its run", "both")
_OPERATIONS = 30  # of the studio on files: it makes the folder, and begins to look at it
_STARTS = 3.0  # seconds in which it begins to answer
_PATIENCE = 200  # seconds that a page or a run has on a busy machine
_STOPPED = ("the run was killed.", "is not finished")
_BUSY = "another process works in this folder"


def torment(count: int, seed: int, done: set[Any], given: Path, scratch: Path) -> Iterator[Any]:
    """A row per run: it is started on the page, something is killed, and it is taken up again."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    for name in ("gradio", "t2ipal.cli.studio_make", "t2ipal.cli.studio_tag"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    stage = Stage("studio", "", given, scratch)
    takes = _measure(stage)
    for number in range(count):
        victim = _VICTIMS[number % 3]
        if ("studio", seed, victim, number) in done:
            continue
        chance = random.Random(f"{seed} studio {number}")
        row = _killed(stage, number, chance, takes)
        yield {"stage": victim, "number": number, **row}


def _measure(stage: Stage) -> float:
    """Let the page make a run twice, undisturbed; the seconds that the second one takes."""
    trees, takes = [], 0.0
    for _ in range(2):
        studio = _Studio(stage, _home(stage))
        studio.open()
        began = time.monotonic()
        said = studio.make()
        takes = time.monotonic() - began
        studio.end(signal.SIGINT)
        if studio.faults or "is ready" not in said:
            raise SystemExit(f"studio: the undisturbed run failed: {said} {studio.faults}")
        trees.append(tree(studio.out, studio.out))
    first, stage.expected = trees
    names = {*first, *stage.expected}
    stage.varying = {name for name in names if first.get(name) != stage.expected.get(name)}
    return takes


def _home(stage: Stage) -> Path:
    """An empty folder for a studio, its runs and its temporary files."""
    home = stage.folder("studio")
    (home / "tmp").mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(home / "tmp")
    return home


class _Studio:
    """A studio under way in a process of its own, and its page Make.

    Attributes:
        out: folder of the run that it makes.
        faults, megabytes, ended: what was wrong, its peak memory when it has ended, and whether it
            has.
    """

    def __init__(self, stage: Stage, home: Path, plan: Plan = NOTHING) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        words = ["studio", str(stage.given / "m"), "--runs", str(home / "runs"), "--port", port]
        self.out, self.home = home / "runs" / _NAME, home
        self.faults, self.megabytes, self.ended = list[str](), 0, False
        self._process = Attempt(words, home / "runs", stage.scratch, plan, _PATIENCE)
        self._page = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE)
        self._functions: dict[str, int] = {}

    def open(self) -> None:
        """Wait until it answers, and upload a photo."""
        while self.alive():
            with contextlib.suppress(httpx.TransportError):
                functions = self._page.get("/config").json()["dependencies"]
                self._functions = {one["api_name"]: one["id"] for one in functions}
                self._page.post("/gradio_api/upload", files={"files": ("a.png", b"a photo")})
                break
            time.sleep(0.05)
        if len(left := self._temporary()) > 1:
            self.faults.append(f"temporary files of a studio that is no more: {left}")

    def _temporary(self) -> list[str]:
        """All but the folder of PyTorch's compiler, which has one name for all processes."""
        return [one for one in os.listdir(self.home / "tmp") if not one.startswith("torchinductor")]

    def alive(self) -> bool:
        """Whether the process has not ended."""
        state = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, state) is None

    def press(self, function: str, *given: Any) -> None:
        """Call a function of the page; its answer comes later."""
        asked = {"data": given, "fn_index": self._functions[function], "session_hash": "chaos"}
        with contextlib.suppress(httpx.TransportError):
            self._page.post("/gradio_api/queue/join", json=asked)

    def answer(self) -> str:
        """What the page then says of the run; empty if that is what it said before."""
        place, session = "/gradio_api/queue/data", {"session_hash": "chaos"}
        with (
            contextlib.suppress(httpx.TransportError),
            self._page.stream("GET", place, params=session) as stream,
        ):
            for line in stream.iter_lines():
                if "process_completed" in line:
                    output = json.loads(line.removeprefix("data:"))["output"]
                    said = output["data"][0] if "data" in output else output["error"]
                    return said if isinstance(said, str) else ""
        return ""

    def make(self) -> str:
        """Press the button that makes the run; what is said when that, or the studio, has ended."""
        self.press("started", *_FIELDS)
        return self.look()

    def look(self) -> str:
        """Look at the run until it, or the studio, has ended; what the page says then."""
        said, until = "", time.monotonic() + _PATIENCE
        while self.alive():
            said = self.answer() or said
            if said and "is being made" not in said:
                return said
            if time.monotonic() > until:
                return f"without an end: {said}"
            time.sleep(0.5)
            self.press("ticked", _NAME, "")
        return said

    def end(self, sign: int) -> None:
        """Kill it or close it, unless its plan does; what is wrong then."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, sign)
        ended, self.ended = self._process.wait(), True
        self._page.close()
        self.megabytes = ended.megabytes
        self.faults += ended.faults
        closed = sign != signal.SIGKILL
        if ended.status not in (*STATUS[signal.Signals(sign)], *[0] * closed):
            self.faults.append(f"status {ended.status} of the studio: {ended.said[-300:]}")
        if closed and (left := self._temporary()):
            self.faults.append(f"temporary files: {left}")
        if closed and (runs := _runs(self.out)):
            self.faults.append(f"processes that go on without their studio: {runs}")
            _wait_for_runs(self.out)


def _killed(stage: Stage, number: int, chance: random.Random, takes: float) -> dict[str, Any]:
    victim, sign = _VICTIMS[number % 3], KILLS[number // 3 % 3]
    name, hits = signal.Signals(sign).name, 0
    home, plan = _home(stage), NOTHING
    after = chance.uniform(0, chance.choice((1, takes)))
    if victim == "studio" and number % 2:
        plan = Plan(sign=sign, at=1 + chance.randrange(_OPERATIONS))
    what = f"{plan} of the studio" if plan.sign else f"{name} of {victim} after {after:.3f} s"
    studio = _Studio(stage, home, plan)
    studios = [studio]
    studio.open()
    if plan.sign:
        studio.make()
        hits += not studio.alive()
    else:
        studio.press("started", *_FIELDS)
        until = time.monotonic() + _PATIENCE
        while victim != "studio" and not _runs(studio.out) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(after)
        killed = _runs(studio.out) if victim != "studio" else []
        for process in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, sign)
        hits += len(killed) + (victim != "its run")
    faults = list[str]()
    if victim == "its run":
        said = studio.look()
        if not any(one in said for one in (*_STOPPED, "is ready")):
            faults.append(f"the page says: {said}")
    else:
        studio.end(sign)
        if chance.random() < 0.3:
            what += ", and of the next one in its start"
            studios.append(studio := _Studio(stage, home))
            time.sleep(chance.uniform(0, _STARTS))
            studio.end(sign)
            hits += 1
        if chance.random() < 0.5 and (studio.out / "config.yaml").exists():
            what += ", resumed in a terminal"
        else:
            studios.append(studio := _Studio(stage, home))
            studio.open()
    faults += _resume(stage, studio)
    faults += [fault for one in studios for fault in one.faults]
    if different := stage.differences(studio.out):
        faults.append(f"differs: {', '.join(different)}")
    if (left := os.listdir(home / "runs")) != [_NAME]:
        faults.append(f"runs: {left}")
    return {
        "what": what, "faults": faults, "hits": hits,
        "megabytes": max(one.megabytes for one in studios),
    }  # fmt: skip


def _resume(stage: Stage, studio: _Studio) -> list[str]:
    """Take the run up again, on the page of a studio or without one; what is wrong then."""
    out, faults = studio.out, list[str]()
    if studio.ended:
        _wait_for_runs(out)  # that of a studio which was killed goes on
        words = ["run", "--config", str(out / "config.yaml"), "--out", str(out)]
        ended = Attempt(words, out, stage.scratch, NOTHING, _PATIENCE).wait()
        if ended.status:
            faults.append(f"the next start ended with {ended.status}: {ended.said[-300:]}")
        return [*faults, *ended.faults]
    busy = _runs(out)
    said = studio.make()
    if busy and _BUSY in said:
        _wait_for_runs(out)
        said = studio.make()
    if "is ready" not in said:
        faults.append(f"not resumed: {said}")
    studio.end(signal.SIGINT)
    return faults


def _runs(out: Path) -> list[int]:
    """The living processes of ``t2ipal run`` that fill a folder."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = command.read_bytes().split(b"\0")
            if b"run" in words and bytes(out) in words:
                found.append(int(command.parent.name))
    return found


def _wait_for_runs(out: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while (left := _runs(out)) and time.monotonic() < until:
        time.sleep(0.1)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
