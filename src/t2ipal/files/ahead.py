"""Values computed ahead by threads, in order and a bounded number of them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_THREADS = min(32, os.cpu_count() or 1)  # dozens of cores decode as fast as a GPU embeds

_T = TypeVar("_T")
_R = TypeVar("_R")


def ahead(
    function: Callable[[_T], _R], values: Iterable[_T], *, pending: int
) -> Iterator[tuple[_T, _R]]:
    """Each value with ``function(value)``, in order, while threads compute the next ones.

    At most ``pending`` values are taken and not yet given out, so memory does not grow with their
    number; ``values`` is iterated in the caller's thread. What the function raises is raised at the
    place of its value; values that no thread has begun when the caller stops are left out.

    Examples:
        >>> list(ahead(abs, [-3, 2, -1], pending=2))
        [(-3, 3), (2, 2), (-1, 1)]
    """
    pool = ThreadPoolExecutor(_THREADS)
    begun = deque[tuple[_T, Future[_R]]]()
    try:
        for value in values:
            begun.append((value, pool.submit(function, value)))
            if len(begun) >= pending:
                first, future = begun.popleft()
                yield first, future.result()
        while begun:
            first, future = begun.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
