"""What the command line says: results on standard output, complaints on standard error."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

# What a terminal obeys or turns round: escape sequences, line breaks, directions of writing.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class _Hearing:
    """Whether anybody still reads what is said; ``error`` is why not."""

    error: OSError | None = None


def plain(text: str) -> str:
    """``text`` with control characters as escapes, such as ``\\x1b``: safe on a terminal."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def complain(message: str) -> None:
    """Say what is wrong on standard error, if there is one that can be written to."""
    if sys.stderr is not None:
        try:
            print(f"t2ipal: {plain(message)}", file=sys.stderr, flush=True)
        except OSError:  # a full disk behind "2>"; the exit status tells all the same
            _silence(sys.stderr)


def say(line: str, *, data: bool = False) -> None:
    """Say a line of a result. Who cannot be heard does the work all the same.

    Args:
        data: the line is all that there is to do: stop if nobody reads it. It is data, not escaped.
    """
    if _Hearing.error is None:
        try:
            print(line if data else plain(line), flush=True)
        except OSError as error:
            _unheard(error)
    if data and _Hearing.error is not None:
        raise SystemExit(farewell(0))


def _unheard(error: OSError) -> None:
    _Hearing.error = error
    _silence(sys.stdout)


def _silence(stream: TextIO) -> None:
    """Nothing is written to it any more, not even what is left in its buffer when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def farewell(status: int, *, only_says: bool = True) -> int:
    """The exit status of a verb that ended with ``status``, by whether it was heard to the end."""
    error = _Hearing.error
    if error is None:
        try:
            sys.stdout.flush()
            return status
        except OSError as failed:
            _unheard(error := failed)
    if isinstance(error, BrokenPipeError):
        return 141 if only_says else status
    complain(
        f"standard output: cannot be written ({error.strerror}); look where it goes, then run the "
        "same command again."
    )
    return 2
