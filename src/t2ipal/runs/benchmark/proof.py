"""Claims about GPUs, published weights and real archives, checked on the machine that has them.

What a check is, where it is made, and what stands in for photos, CLIP and generator in a rehearsal.

OUT/ prove.jsonl record.json page.html work/

``prove.jsonl`` says on its first line where and with what the checks run, and then has a row per
check. ``record.json`` and ``page.html`` are written anew after every check: they are what one sends
back.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import platform
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import t2ipal
from t2ipal.clip.clip_settings import DeviceSettings, Precision
from t2ipal.errors import UserError, nearest, not_installed
from t2ipal.files import read_jsonl, write_jsonl, write_text
from t2ipal.files.hub import NotFetched, first_line
from t2ipal.files.lock import locking
from t2ipal.generation.diffusion.settings import GenerationSettings, PresetName
from t2ipal.report.page import rendered
from t2ipal.runs.fitting import Say, hardware, versions
from t2ipal.runs.folder import refuse_foreign

log = logging.getLogger(__name__)

JOURNAL, RECORD, PAGE = "prove.jsonl", "record.json", "page.html"

PASSED, FAILED, MEASURED = "passed", "failed", "measured"
REHEARSED = "rehearsed"  # went through, with stand-ins: neither passed nor measured
NOT_POSSIBLE, NOT_RUN = "not possible here", "not run"
_FINISHED = (PASSED, FAILED, MEASURED, REHEARSED)
_DISK = (errno.ENOSPC, errno.EDQUOT)

_REHEARSAL = (
    "A rehearsal with the packaged miniature models, on the processor in the place of a GPU. It "
    "shows that the command works; its figures say nothing about GPUs, published weights or photos."
)


class NotPossible(Exception):
    """A check cannot be made on this machine; the message says why."""


@dataclass(frozen=True)
class Setup:
    """Where and how checks are made.

    Attributes:
        folder: for what they make; kept, so that an interrupted one resumes.
        rehearsal: small stand-ins instead of published weights and archives, and no GPU.
        say: told of progress.
    """

    folder: Path
    rehearsal: bool
    say: Say

    def device(self, kind: str = "gpu") -> str:
        """``cuda`` or ``mps``, or for ``gpu`` the one that is there; a rehearsal takes the CPU.

        Raises:
            NotPossible: there is none.
        """
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.rehearsal and kind != "mps":
            return "cpu"
        for name, present in there.items():
            if present and kind in (name, "gpu"):
                return name
        names = {"gpu": "no GPU", "cuda": "no GPU with CUDA", "mps": "no MPS"}
        raise NotPossible(f"there is {names[kind]} on this machine")

    def require(self, device: str, precision: Precision) -> None:
        """Raise NotPossible unless the device computes in this precision."""
        try:
            DeviceSettings(device=device, precision=precision).found()
        except UserError as error:
            raise NotPossible(str(error)) from None

    def clip(self, published: str = "RN50:openai") -> str:
        """The published CLIP, or the miniature in a rehearsal."""
        return "miniature" if self.rehearsal else published

    def generation(
        self, device: str, precision: Precision = "auto", preset: PresetName = "fast"
    ) -> GenerationSettings:
        """How a preset generates, or the miniature in a rehearsal.

        Raises:
            NotPossible: the device does not compute in this precision.
        """
        self.require(device, precision)
        where: dict[str, Any] = {"device": device, "precision": precision}
        if self.rehearsal:
            small = GenerationSettings(generator="miniature", steps=2, height=96, width=96, **where)
            return small.with_preset()
        return GenerationSettings(preset=preset, **where).with_preset()

    def pictures(self, count: int) -> list[Path]:
        """Made photos to embed."""
        return made_pictures(self.folder / "pictures", count)


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        passed: None for a figure that nothing bounds.
        figure: what was measured, in words.
        bound: what it was compared with, in words.
        figures: the same for machines.
    """

    passed: bool | None
    figure: str
    bound: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A claim under its name, and the function that checks it.

    The function raises NotPossible if this machine cannot check it; any other error is a failure,
    but for what a network or a disk denies.
    """

    name: str
    claim: str
    run: Callable[[Setup], Outcome]


def made_pictures(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> list[Path]:
    """JPEG files with as much detail as photos have: coarse shapes and some noise."""
    width, height = size
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = (pixels + rng.integers(-12, 13, (height, width, 1))).clip(0, 255)
        path = folder / f"{number:06}.jpg"
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)
        files.append(path)
    return files


@locking
def prove(
    out: str | Path,
    checks: Sequence[Check],
    *,
    only: Sequence[str] = (),
    rehearsal: bool = False,
    say: Say = log.info,
) -> bool:
    """Make checks and write their record and page; False if one failed. Resumes.

    Finished checks are not made again; those that were not possible are tried anew.

    Args:
        out: folder of the journal, the record and the page.
        only: names of the checks to make; all if empty. The page has the others too.

    Raises:
        UserError: no such check, or ``out`` holds something else, or checks of another machine or
            version.
    """
    names = [check.name for check in checks]
    for name in only:
        if name not in names:
            raise UserError(
                f"there is no check {name!r}{nearest(name, names)}; name some of "
                f"{', '.join(names)}."
            )
    out = Path(out)
    refuse_foreign(out, JOURNAL, "proof", None)
    about = _about(rehearsal)
    rows = _read_journal(out / JOURNAL, about)
    setup = Setup(out / "work", rehearsal, say)
    for check in checks:
        if only and check.name not in only:
            continue
        if rows.get(check.name, {}).get("status") in _FINISHED:
            say(f"{check.name}: {rows[check.name]['status']} before")
            continue
        rows[check.name] = _made(check, setup)
        write_jsonl(out / JOURNAL, [about, *rows.values()])
        row = rows[check.name]
        bound = f" (bound: {row['bound']})" if row["bound"] else ""
        say(f"{check.name}: {row['status']} in {row['seconds']:g} s: {row['figure']}{bound}")
        _write(out, about, checks, rows)
    _write(out, about, checks, rows)
    say(f"record  {out / RECORD}")
    say(f"page    {out / PAGE}")
    return all(row["status"] != FAILED for row in rows.values())


def _about(rehearsal: bool) -> dict[str, Any]:
    """What decides the figures beside the checks; the same for all that are in one folder."""
    machine = hardware()
    if torch.cuda.is_available():
        machine["gpu memory"] = [
            torch.cuda.get_device_properties(i).total_memory
            for i in range(torch.cuda.device_count())
        ]
        machine |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    machine["mps"] = torch.backends.mps.is_available()
    machine["release"] = platform.release()
    about = {"rehearsal": rehearsal, "commit": _commit(), "versions": versions()}
    return {**about, "machine": machine}


def _commit() -> str | None:
    """The commit of the source tree that this package is imported from, if it is one."""
    package = Path(t2ipal.__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix") != "src/t2ipal/":
            return None  # installed within somebody else's repository
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _read_journal(path: Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a journal by their checks; none if there is no journal yet."""
    if not path.exists():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for number, row in read_jsonl(path):
        if number == 1:
            for key, value in json.loads(json.dumps(about)).items():
                if row.get(key) != value:
                    raise UserError(
                        f"{path.parent}: holds checks with another {key}; choose another --out."
                    )
        elif row.get("status") not in (*_FINISHED, NOT_POSSIBLE) or "check" not in row:
            raise UserError(f"{path}:{number}: is no check; remove the line, and it is made again.")
        else:
            found[row["check"]] = row
    return found


def _made(check: Check, setup: Setup) -> dict[str, Any]:
    """The journal's row of a check that is made now."""
    setup.say(f"{check.name}: {check.claim}")
    row: dict[str, Any] = {"check": check.name, "bound": "", "figures": {}}
    started = time.monotonic()
    try:
        outcome = check.run(setup)
    except Exception as error:
        if _chained(error, KeyboardInterrupt):  # libraries turn it into others
            raise KeyboardInterrupt from error
        row |= _without_outcome(error)
    else:
        status = {True: PASSED, False: FAILED, None: MEASURED}[outcome.passed]
        if setup.rehearsal and status != FAILED:
            status = REHEARSED
        row |= {"status": status, "figure": outcome.figure, "bound": outcome.bound}
        row["figures"] = dict(outcome.figures)
    row["seconds"] = round(time.monotonic() - started, 1)
    row["at"] = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    gc.collect()  # a pipeline lies in circles, and the next check needs the GPU's memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return row


def _without_outcome(error: Exception) -> dict[str, Any]:
    """Why a check has no outcome: the machine cannot make it, or it failed."""
    missing = not_installed(error) if isinstance(error, ImportError) else None
    if isinstance(error, OSError) and error.errno in _DISK:
        return {"status": NOT_POSSIBLE, "figure": "there is not enough disk"}
    if missing is not None or isinstance(error, NotPossible | NotFetched):
        return {"status": NOT_POSSIBLE, "figure": _homeless(str(missing or error))}
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    said = kind + (first_line(error) if kind else str(error))
    trace = "".join(traceback.format_exception(error))
    return {"status": FAILED, "figure": _homeless(said), "traceback": _homeless(trace)}


def _homeless(text: str) -> str:
    """The text without the name of the user's own folder: it is sent to others."""
    return text.replace(str(Path.home()), "~")


def _chained(error: BaseException, kind: type[BaseException]) -> bool:
    one: BaseException | None = error
    while one is not None and not isinstance(one, kind):
        one = one.__cause__ or one.__context__
    return one is not None


def _write(
    out: Path,
    about: Mapping[str, Any],
    checks: Sequence[Check],
    rows: Mapping[str, dict[str, Any]],
) -> None:
    empty: dict[str, Any] = {
        "status": NOT_RUN,
        "figure": "",
        "bound": "",
        "figures": {},
        "seconds": None,
    }
    found = [
        {"check": check.name, "claim": check.claim, **rows.get(check.name, empty)}
        for check in checks
    ]
    counts = Counter(str(row["status"]) for row in found)
    record = {**about, "counts": dict(counts), "checks": found}
    write_text(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    machine = about["machine"]
    page = rendered(
        "proof.html.j2",
        record=record,
        counts=[(counts[one], one) for one in (*_FINISHED, NOT_POSSIBLE, NOT_RUN) if counts[one]],
        warning=_REHEARSAL if about["rehearsal"] else "",
        on=", ".join(dict.fromkeys(machine["gpus"])) or f"{machine['machine']} without a GPU",
        benchmarks=[row for row in found if "mAP" in row["figures"]],
        kinds={
            PASSED: "hit", FAILED: "wrong", MEASURED: "", NOT_POSSIBLE: "unknown", NOT_RUN: "below",
            REHEARSED: "",
        },
        seconds=sum(row["seconds"] or 0 for row in found),
    )  # fmt: skip
    write_text(out / PAGE, page)
