"""Between the program and the system: what fails outside it becomes a sentence and a status."""

from __future__ import annotations

import codecs
import errno
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from t2ipal.cli.speech import complain, plain
from t2ipal.errors import UserError, not_installed

_REMEDIES = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some space, then run the same command again",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "name a folder that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "allow more open files with 'ulimit -n 4096'",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "check the path",
    errno.ELOOP: "check the path",
}
_PATHS = ("path", "file", "folder", "out", "source")  # what functions call them
_LONGEST = 4000  # characters of a complaint
_KEPT = "t2ipal-keep"  # name of an error handler


class _Stopped(KeyboardInterrupt):
    """A signal asks the program to end; raised where it is, so that everything is tidied up."""

    number = int(signal.SIGINT)
    received = False


class _PlainFormatter(logging.Formatter):
    """Log records as complaints: escaped, all but the line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(plain, super().format(record).split("\n")))


def answered(run: Callable[[], int], *, owned: bool) -> int:
    """The exit status of ``run``; an error from outside the program is told in a sentence.

    Args:
        owned: the process is this program's: it answers to signals, and libraries that are not
            needed are not imported.

    Raises:
        KeyboardInterrupt: the user, or the system, asks to stop.
    """
    if owned:
        from t2ipal.clip.spared import spare_imports

        _own_process()
        spare_imports()
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        return run()
    except Exception as error:
        if owned and _Stopped.received:  # libraries turn it into others
            raise KeyboardInterrupt from error
        if (said := sentence(error)) is None:
            raise
        complain(said)
        return 2


def _own_process() -> None:
    """Open the standard streams so that they lose no character, and listen to signals.

    SIGINT, SIGTERM and, unless it is ignored, SIGHUP end the program from within.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed; the next file opened would take its place, and get the complaints
            os.open(os.devnull, os.O_RDWR if number != 1 else os.O_RDONLY)
    codecs.register_error(_KEPT, _keep)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        getattr(sys, name).reconfigure(errors=_KEPT)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        sign = getattr(signal, name, None)
        if sign is not None and signal.getsignal(sign) != signal.SIG_IGN:
            signal.signal(sign, _stop)
    sys.unraisablehook = _stop_again


def _keep(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file name as they are, what the encoding lacks as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


def _stop(number: int, frame: FrameType | None) -> None:
    _Stopped.number, _Stopped.received = number, True
    raise _Stopped


def _stop_again(lost: sys.UnraisableHookArgs) -> None:
    """Python calls this where nothing can be raised, as in callbacks of its import system."""
    if not isinstance(lost.exc_value, _Stopped):
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(0.01, os.kill, (os.getpid(), _Stopped.number))
    again.daemon = True
    again.start()


def sentence(error: BaseException) -> str | None:
    """What to say of an error that comes from outside the program; None for one of its own.

    Of a very long one, such as of a name of thousands of characters, the middle is left out.
    """
    text = _sentence(error)
    if text is None or len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]} [...] {text[-_LONGEST // 2 :]}"


def _sentence(error: BaseException) -> str | None:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ImportError) and (missing := not_installed(error)) is not None:
        return str(missing)
    kind, place = type(error).__name__, _place(error)
    at = f"{place}: " if place else ""
    if kind == "SafetensorError" and (number := re.search(r"\(os error (\d+)\)", str(error))):
        error = OSError(int(number[1]), os.strerror(int(number[1])))
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or kind
        remedy = _REMEDIES.get(error.errno or 0, "check the path and the disk")
        return f"{error.filename or place or 'a file'}: {reason}; {remedy}."
    no_room = kind == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or no_room:
        return f"{at}there is not enough memory; choose a smaller --batch-size or smaller files."
    if isinstance(error, RecursionError):
        return f"{at}is nested too deeply; simplify it."
    if isinstance(error, UnicodeError):
        reason = getattr(error, "reason", str(error))
        return f"{at}a text or a name is no Unicode ({reason}); save or call it in UTF-8."
    module = type(error).__module__.partition(".")[0]
    if kind == "SafetensorError" or module == "yaml":
        return f"{at}is damaged ({' '.join(str(error).split())[:200]}); fetch or make it again."
    return None


def _place(error: BaseException) -> str:
    """The path that the innermost function of this project was about."""
    found, trace = "", error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if not frame.f_globals.get("__name__", "").startswith("t2ipal"):
            continue
        for name in _PATHS:
            value = frame.f_locals.get(name)
            if isinstance(value, Path) or (isinstance(value, str) and 0 < len(value) < 300):
                found = str(value)
                break
    return found
