"""Work on what comes next in threads, while what is there is being used."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_THREADS = min(8, os.cpu_count() or 1)


def map_ahead(function: Callable[[_In], _Out], items: Iterable[_In], ahead: int) -> Iterator[_Out]:
    """``map`` in threads: results in order, at most ``ahead`` of them waiting to be taken.

    The first exception is raised where its result would have come.
    """
    waiting = deque[Future[_Out]]()
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
