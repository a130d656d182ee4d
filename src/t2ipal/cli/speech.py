"""What the command line says: results on standard output, complaints on standard error."""

from __future__ import annotations

import sys


def complain(message: str) -> None:
    print(f"t2ipal: {message}", file=sys.stderr)


def say(line: str) -> None:
    print(line, flush=True)
