"""One job per folder: a lock that its processes share and others respect."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from t2ipal.errors import UserError
from t2ipal.files import LOCK, sweep

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_held: set[Path] = set()
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # which Windows does not know


@contextmanager
def one_job(folder: str | Path, part: str | None = None) -> Iterator[None]:
    """Keep other jobs out of a folder while this one writes there; made if it is not there.

    The system lets go of the lock however the process ends, so that none is ever stale. What a
    killed process left half-written in the folder is removed. A call within another one for the
    same folder passes. A folder that cannot be written, or is on a file system without locks, is
    not locked.

    Args:
        part: names one of the processes that share a job, such as a shard: parts run side by side,
            but neither the same part twice nor a part beside a job without parts.

    Raises:
        UserError: another process works there; it is named, with its host.
    """
    folder = Path(folder)
    own = (folder / f"{LOCK}-{part}" if part else folder / LOCK).absolute()
    if own in _held or (folder / LOCK).absolute() in _held:
        yield
        return
    made = _make(folder)
    with ExitStack() as stack:
        for path in made:
            stack.callback(_remove_empty, path)
        stack.enter_context(_locked(own))
        # Each takes its own first and looks at the other's then, so never do both pass.
        for other in folder.glob(f"{LOCK}*") if part is None else [folder / LOCK]:
            if other.absolute() != own and other.exists():
                with _locked(other):
                    pass
        sweep(folder, alone=part is None)
        _held.add(own)
        stack.callback(_held.discard, own)
        yield


def locking(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function whose folder ``out`` is locked by :func:`one_job`, by its ``shard``, in a call."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def locked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        given = signature.bind(*args, **kwargs).arguments
        shard = given.get("shard")
        part = None if shard is None else f"{shard.index}-of-{shard.count}"
        with one_job(given["out"], part):
            return function(*args, **kwargs)

    return locked


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _take(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):  # while it is locked, so that nobody locks a file that is gone
                path.unlink()
            os.close(descriptor)


def _take(path: Path) -> int | None:
    """The locked file, open; None if the folder is one that nobody can lock."""
    from filelock import lock_descriptor

    while True:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UserError(
                f"{path}: is not the lock of this folder, but a link or no file; remove it."
            )
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            log.debug("%s: not locked (%s)", path, error)
            return None
        except OSError as error:
            if path.parent.is_dir() and os.access(path.parent, os.W_OK):
                raise
            log.debug("%s: not locked (%s)", path, error)
            return None
        try:
            taken = lock_descriptor(descriptor, blocking=False)
        except OSError as error:
            log.debug("%s: not locked (%s)", path, error)
            taken = True
        if not taken:
            holder = os.pread(descriptor, 400, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise UserError(
                f"{path.parent}: another process works in this folder"
                f"{f' ({holder})' * bool(holder)}; wait for it, or choose another folder."
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                break
        os.close(descriptor)  # its last holder has just removed it
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    command = shlex.join(["t2ipal", *sys.argv[1:2]])
    text = f"{command}, process {os.getpid()} on {socket.gethostname()}, since {started}\n"
    with suppress(OSError):  # a full disk; the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    return descriptor


def _make(folder: Path) -> list[Path]:
    """Make a folder; those that were not there, from the outermost on."""
    made: list[Path] = []
    while not (folder := folder.absolute()).exists():
        made.insert(0, folder)
        folder = folder.parent
    for path in made:
        path.mkdir(exist_ok=True)
    return made


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()
