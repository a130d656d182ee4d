"""One attempt: a command in a forked process that something happens to.

The parent has imported all that commands need and computes nothing itself, so that a process costs
a fork. File operations are seen by an audit hook of Python in the child; what libraries in other
languages write is reached by a limit of bytes instead.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# of a kill; negative before the program has begun to listen
STATUS = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}
REFUSALS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE, errno.EFBIG)
HANG = 20  # seconds of computing, or of waiting for nothing, of a command that takes a few
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.utime")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Plan:
    """What happens to an attempt.

    Attributes:
        sign: signal that it gets, at a file operation or after some seconds.
        code: errno with which file operations are refused; EFBIG is a limit of bytes in a file.
        at: number of the file operation in the folder, from 1; of the bytes for EFBIG.
        after: seconds.
        lasting: all later operations are refused too.
    """

    sign: int = 0
    code: int = 0
    at: int = 0
    after: float | None = None
    lasting: bool = False

    def __str__(self) -> str:
        what = signal.Signals(self.sign).name if self.sign else errno.errorcode.get(self.code, "")
        when = f"after {self.after:.3f} s" if self.after is not None else f"at {self.at}"
        return f"{what} {when}{' and later' * self.lasting}"


NOTHING = Plan()


@dataclass(frozen=True)
class Outcome:
    """How it ended: exit status, standard error, seconds, peak memory in MB, file operations."""

    status: int
    said: str
    seconds: float
    megabytes: int
    operations: int
    hung: str

    @property
    def faults(self) -> list[str]:
        """What should never be, whatever happened."""
        found = []
        if "Traceback" in self.said:
            found.append("traceback: " + " ".join(self.said.split())[-300:])
        if self.hung:
            found.append(f"hung: {self.hung}")
        if self.megabytes > 2000:
            found.append(f"{self.megabytes} MB")
        return found


class Attempt:
    """A command under way in a process of its own."""

    def __init__(
        self, words: list[str], folder: Path, scratch: Path, plan: Plan = NOTHING, limit: float = 0
    ) -> None:
        self.plan, self.limit = plan, max(limit, HANG)
        self.began = time.monotonic()
        self.complaints = scratch / f"stderr-{time.monotonic_ns()}"
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(read)
            _child(words, str(folder), self.complaints, plan, write)
        os.close(write)
        self.counted = read

    def wait(self) -> Outcome:
        """Let it end, with the signal of its plan if that comes by time."""
        hung, due = "", self.plan.after
        self._moved, self._used = time.monotonic(), 0.0
        while True:
            pid, code, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            past = time.monotonic() - self.began
            if due is not None and past >= due:
                os.kill(self.pid, self.plan.sign)
                due = None
            if not hung and (hung := self._hangs()):
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.001 if due is not None else 0.01)
        said = self.complaints.read_text(errors="replace") if self.complaints.exists() else ""
        self.complaints.unlink(missing_ok=True)
        operations = int(os.read(self.counted, 20) or b"0")
        os.close(self.counted)
        return Outcome(
            status=os.waitstatus_to_exitcode(code),
            said=said,
            seconds=time.monotonic() - self.began,
            megabytes=usage.ru_maxrss // 1000,
            operations=operations,
            hung=hung,
        )

    def _hangs(self) -> str:
        """Whether it computes without end, or does nothing; a busy machine is neither."""
        states, used = set(), 0
        try:
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                fields = (task / "stat").read_text().rpartition(")")[2].split()
                states.add(fields[0])
                used += int(fields[11]) + int(fields[12])
        except (OSError, IndexError):  # it has just ended
            return ""
        if used != self._used or states & {"R", "D"}:
            self._moved, self._used = time.monotonic(), used
        if used / os.sysconf("SC_CLK_TCK") > self.limit:
            return f"computed for {self.limit:.0f} s without an end"
        if time.monotonic() - self._moved > HANG:
            return f"did nothing for {HANG} s"
        return ""


def attempt(
    words: list[str], folder: Path, scratch: Path, plan: Plan = NOTHING, limit: float = 0
) -> Outcome:
    """Run a command to its end."""
    return Attempt(words, folder, scratch, plan, limit).wait()


def _child(words: list[str], folder: str, complaints: Path, plan: Plan, counted: int) -> None:
    status: Any = 99
    try:
        for number, name in ((1, os.devnull), (2, str(complaints))):
            opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
        for sign in KILLS[1:]:
            signal.signal(sign, signal.SIG_DFL)
        sys.argv = ["t2ipal", *words]
        hook = _Hook(folder, plan)
        if plan.code == errno.EFBIG:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (plan.at, plan.at))
        sys.addaudithook(hook)
        try:
            from t2ipal.cli import main

            status = main()
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
            status = 1
        hook.plan = NOTHING
        os.write(counted, str(hook.operations).encode())
        sys.stderr.flush()
    finally:
        os._exit(status if isinstance(status, int) else 0)


class _Hook:
    """Counts the operations on files in a folder; kills or refuses at the one of the plan."""

    def __init__(self, folder: str, plan: Plan) -> None:
        self.folder, self.plan, self.operations = folder, plan, 0

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            changes = isinstance(given[2], int) and bool(given[2] & _WRITES)
        elif event in _CHANGES:
            changes = True
        else:
            return
        path, code = given[0], self.plan.code
        path = os.fsdecode(path) if isinstance(path, bytes) else path
        if not isinstance(path, str) or not path.startswith(self.folder):
            return
        if code in (errno.ENOSPC, errno.EACCES, errno.EROFS) and not changes:
            return
        if code == errno.EMFILE and event != "open":
            return
        self.operations += 1
        if not 0 < self.plan.at <= self.operations or code == errno.EFBIG:
            return
        if self.operations == self.plan.at and self.plan.sign:
            os.kill(os.getpid(), self.plan.sign)
        elif code and (self.plan.lasting or self.operations == self.plan.at):
            raise OSError(code, os.strerror(code), path)
