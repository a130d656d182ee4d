"""Values computed ahead: in order, bounded, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from t2ipal.files.ahead import ahead


def test_order_whatever_takes_long() -> None:
    def slow_first(value: int) -> int:
        time.sleep(0.05 if value == 0 else 0)
        return value * value

    assert list(ahead(slow_first, range(20), pending=4)) == [(i, i * i) for i in range(20)]
    assert list(ahead(slow_first, [], pending=4)) == []


@pytest.mark.parametrize("pending", [1, 5])
def test_no_more_than_pending_values_are_taken_ahead(pending: int) -> None:
    taken = 0

    def values() -> Iterator[int]:
        nonlocal taken
        for value in range(1, 51):
            taken = value
            yield value

    for given, (value, _) in enumerate(ahead(str, values(), pending=pending), 1):
        assert value == given and taken - given < pending


def test_an_error_is_raised_at_its_place() -> None:
    found = []
    with pytest.raises(ZeroDivisionError):
        for value, result in ahead(lambda value: 6 // value, [3, 2, 0, 1], pending=4):
            found.append((value, result))
    assert found == [(3, 2), (2, 3)]


def test_what_has_not_begun_when_the_caller_stops_is_left_out() -> None:
    gate = threading.Event()
    computed: list[int] = []

    def wait(value: int) -> None:
        if value:
            gate.wait(5)
        computed.append(value)

    stream = ahead(wait, range(1000), pending=200)
    threading.Timer(0.2, gate.set).start()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(computed) < 200 and threading.active_count() < 20
