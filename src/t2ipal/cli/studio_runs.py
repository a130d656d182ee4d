"""The runs that the studio shows and makes: folders, and the process that fills one of them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from t2ipal.errors import UserError
from t2ipal.tagger import CONFIG

_NAME = re.compile(r"\w[\w. -]*")
_PATIENCE = 10  # seconds that a run that is stopped has to tidy up
_STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)  # exit statuses


@dataclass
class _Job:
    """A run's process, and what it says."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def error(self) -> str:
        """Why it failed; empty if it did not, or has not yet."""
        if self.process.poll() in (None, 0, *_STOPPED):
            return ""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("t2ipal: ") if lines else "the run was killed."


class Runs:
    """The runs in one folder; one of them at a time is being made.

    Attributes:
        home: the folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._closed = False

    def names(self) -> list[str]:
        """The runs, the last one first."""
        found = [path.parent for path in self.home.glob("*/config.yaml")]
        found = [path for path in found if _NAME.fullmatch(path.name)]
        found.sort(key=lambda path: -path.stat().st_mtime)
        return [path.name for path in found]

    def model(self, name: str) -> bool:
        """Whether a run has its tagger."""
        return (self.folder(name) / "model" / CONFIG).exists()

    def reported(self) -> list[str]:
        """The runs that have their report."""
        return [name for name in self.names() if (self.folder(name) / "report.html").exists()]

    def folder(self, name: str | None) -> Path:
        """The folder of a run.

        Raises:
            UserError: nothing can be called so.
        """
        if not name or not _NAME.fullmatch(name):
            raise UserError(
                f"a run cannot be called {name or ''!r}; use letters, digits, dots and dashes."
            )
        return self.home / name

    def command(self, name: str) -> list[str]:
        """What resumes a run, behind ``t2ipal``."""
        folder = self.folder(name)
        return ["run", "--config", str(folder / "config.yaml"), "--out", str(folder)]

    def current(self) -> str | None:
        """The run that this studio is making now."""
        return next((name for name in self._jobs if self.running(name)), None)

    def running(self, name: str) -> bool:
        """Whether this studio is making it now."""
        job = self._jobs.get(name)
        return job is not None and job.process.poll() is None

    def error(self, name: str) -> str:
        """Why its last start here failed; empty if it did not."""
        return self._jobs[name].error() if name in self._jobs else ""

    def start(self, name: str, *, overwrite: bool = False) -> None:
        """Start ``t2ipal run`` on a folder, where it resumes.

        Raises:
            UserError: another one is being made, or the studio is being closed.
        """
        command = [
            sys.executable,
            "-m",
            "t2ipal",
            *self.command(name),
            *["--overwrite"] * overwrite,
        ]
        with self._lock:
            if self._closed:
                raise UserError("the studio is being closed; start it again.")
            if (busy := self.current()) is not None:
                raise UserError(f"{busy} is being made; wait until it is done, or stop it.")
            errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the job
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the studio, which then stops it
            )
            self._jobs[name] = _Job(process, errors)

    def stop(self, name: str) -> None:
        """Stop a run; what it has done is kept."""
        if self.running(name):
            process = self._jobs[name].process
            process.terminate()  # a studio in the background of a script ignores SIGINT, so its run
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop_all(self) -> None:
        """Stop what is being made, for good."""
        with self._lock:  # a request may be about to start another
            self._closed = True
        for name in list(self._jobs):
            self.stop(name)
