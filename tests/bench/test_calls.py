"""Calls of several threads at once are timed together, and fail together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.calls import managers
from bench.calls.measure import add, calling, concurrent_round_trips
from bench.ipc.address import Address
from bench.ipc.spawn import Way
from bench.measure import Call


class Connects:
    """Counts who connects; the calls of the one with that number fail."""

    def __init__(self, failing: int = 0) -> None:
        self.numbers = itertools.count(1)
        self._failing = failing

    @contextmanager
    def __call__(self, address: Address) -> Iterator[Call]:
        number = next(self.numbers)

        def call(_: bytes) -> None:
            if number == self._failing:
                raise OSError("no such luck")

        yield call


@pytest.mark.parametrize("shared", [True, False])
def test_threads_share_a_client_or_have_one_each(shared: bool) -> None:
    connects = Connects()
    way = Way[Call](managers.serve, connects)
    sample = concurrent_round_trips(way, 4, shared, 40)
    assert sample.keys() == {"rate", "p50", "p99", "cpu"}
    assert next(connects.numbers) == (2 if shared else 5)


def test_one_that_fails_says_so_at_once() -> None:
    way = Way[Call](managers.serve, Connects(failing=3))
    with pytest.raises(OSError, match="no such luck"):
        concurrent_round_trips(way, 4, False, 40)


def test_real_calls_of_threads_are_all_timed() -> None:
    way = calling(Way(managers.serve, managers.connect), add)
    assert concurrent_round_trips(way, 4, True, 40)["rate"] > 0
