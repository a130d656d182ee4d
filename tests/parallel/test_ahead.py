"""What threads compute ahead: in order, bounded, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator

import pytest
import torch

from t2ipal.parallel.ahead import map_ahead


def test_order_whatever_takes_long() -> None:
    def slow_first(value: int) -> int:
        time.sleep(0.05 if value == 0 else 0)
        return value * value

    assert list(map_ahead(slow_first, range(20), 4)) == [i * i for i in range(20)]
    assert list(map_ahead(slow_first, [], 4)) == []


@pytest.mark.parametrize("ahead", [0, 4])
def test_a_bounded_number_is_taken_ahead(ahead: int) -> None:
    taken = 0

    def values() -> Iterator[int]:
        nonlocal taken
        for value in range(50):
            taken += 1
            yield value

    for given, text in enumerate(map_ahead(str, values(), ahead)):
        assert text == str(given) and taken <= given + 1 + ahead


def test_an_error_is_raised_at_its_place() -> None:
    found = []
    with pytest.raises(ZeroDivisionError):
        for result in map_ahead(lambda value: 6 // value, [3, 2, 0, 1], 4):
            found.append(result)
    assert found == [2, 3]


def test_what_has_not_begun_when_the_caller_stops_is_left_out() -> None:
    gate = threading.Event()
    computed: list[int] = []

    def wait(value: int) -> None:
        if value:
            gate.wait(5)
        computed.append(value)

    stream = map_ahead(wait, range(1000), 200)
    assert isinstance(stream, Generator)
    threading.Timer(0.2, gate.set).start()
    next(stream)
    stream.close()
    assert len(computed) < 200


def test_a_thread_computes_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = list(map_ahead(lambda _: torch.get_num_threads(), range(8), 4))
        assert found == [1] * 8 and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
