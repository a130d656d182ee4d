"""Work on what comes next in threads, while what is there is being used."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_THREADS = min(8, os.cpu_count() or 1)


def map_ahead(function: Callable[[_In], _Out], items: Iterable[_In], ahead: int) -> Iterator[_Out]:
    """``map`` in threads: results in order, at most ``ahead`` of them waiting to be taken.

    The first exception is raised where its result would have come.
    """
    waiting = deque[Future[_Out]]()
    with ThreadPoolExecutor(_THREADS, initializer=_without_team) as pool:
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


def _without_team() -> None:
    """Keep PyTorch from starting, in each of these threads, as many again as there are cores."""
    if torch := sys.modules.get("torch"):
        torch.get_num_threads()  # which sets it in a new thread
        _libraries().limit(limits=1, user_api="openmp")


@cache
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looking for them takes some milliseconds
