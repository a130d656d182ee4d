"""Keep the libraries' progress bars and repeated warnings off the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Hide the progress bars of diffusers and transformers; downloads keep theirs."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    loud = [log for log in (of_diffusers, of_transformers) if log.is_progress_bar_enabled()]
    for log in loud:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in loud:
            log.enable_progress_bar()


# Cut prompts are reported once, with their number, before images are generated.
_REPORTED_BY_US = (
    "Token indices sequence length is longer",
    "The following part of your input was truncated",
)


class WarnedOnce(logging.Filter):
    """Lets each warning of the libraries through once, and those about cut prompts never."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[tuple[str, int], logging.LogRecord] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(_REPORTED_BY_US):
            return False
        # several handlers filter the same record, and all may emit it
        return self._first.setdefault((record.pathname, record.lineno), record) is record

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Filter the handlers of diffusers and transformers meanwhile."""
        handlers = [
            handler
            for library in ("diffusers", "transformers")
            for handler in logging.getLogger(library).handlers
        ]
        for handler in handlers:
            handler.addFilter(self)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(self)
