"""The one exception that means: the user can fix this."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Bad input. Its message is one sentence: what is wrong, where, and what to do.

    The command line prints it and exits with status 2; in Python it is an ordinary ``ValueError``.
    """


def nearest(word: str, options: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the option closest to ``word``, or an empty string."""
    found = difflib.get_close_matches(word, list(options), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first ``most`` names, quoted, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
