"""Iterators: their items go as they are asked for, and nobody runs ahead."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice

import pytest

from portkit import InvalidPortError, ReceiveTimeoutError, RemoteError
from tests.ports.helpers import Background
from tests.remote import roles
from tests.remote.sides import There, connected
from tests.support import PATIENCE, LoopThread, eventually

pytestmark = pytest.mark.own_thread


class Counted:
    """Numbers, and how many were taken."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[int]:
        try:
            for number in self._numbers:
                self.taken += 1
                yield number
        finally:
            self.closed = True


class TestItems:
    def test_all_in_order(self, there: There) -> None:
        with connected() as (_, desk):
            for length in (0, 1, 2, 63, 64, 65, 1000):
                assert list(desk.numbers(length)) == list(range(length))
            assert desk.closed() == 7

    def test_many_without_growth(self, there: There) -> None:
        """The other side is never further than a few messages' items ahead."""
        length = 200_000
        with connected() as (connection, desk):
            before = desk.memory()
            numbers = desk.numbers(length)
            for expected, number in enumerate(numbers):
                assert number == expected
                if number % 50_000 == 0:
                    assert desk.produced() - number <= 129
                    assert desk.memory() - before < 20_000
            assert connection.statistics().objects == 0

    def test_to_the_other_side(self, there: There) -> None:
        numbers = Counted(iter(range(1000)))
        with connected() as (connection, desk):
            assert desk.total(numbers) == sum(range(1000))  # type: ignore[arg-type]
            assert desk.total(iter([])) == 0
            assert desk.total([1, 2]) == 3  # type: ignore[arg-type]
            assert eventually(lambda: desk.add(1) and connection.statistics().objects == 0)
        assert numbers.closed

    def test_there_and_back(self, there: There) -> None:
        with connected() as (_, desk):
            doubled = desk.doubled(count())
            assert list(islice(doubled, 200)) == list(range(0, 400, 2))

    def test_interleaved(self, there: There) -> None:
        with connected() as (_, desk):
            first, second = desk.numbers(300), desk.numbers(300)
            assert list(zip(first, second, strict=True)) == [(n, n) for n in range(300)]

    def test_references(self, there: There) -> None:
        with connected() as (_, desk):
            names = [str(number) for number in range(100)]
            assert [item.name() for item in desk.item_stream(names)] == names
            gc.collect()
            assert eventually(lambda: desk.alive() == 0)

    def test_large_ones_go_by_few(self, there: There) -> None:
        sizes = [1] * 200 + [1_000_000] * 20 + [1] * 200
        with connected() as (_, desk):
            assert [len(blob) for blob in desk.blobs(sizes)] == sizes

    def test_one_by_one(self, there: There) -> None:
        numbers = Counted(count())
        with connected(max_items=1) as (_, desk):
            doubled = desk.doubled(numbers)  # type: ignore[arg-type]
            assert [next(doubled) for _ in range(5)] == [0, 2, 4, 6, 8]
            assert numbers.taken <= 5 + 64


class TestPace:
    def test_slow_ones_come_as_they_are_there(self, there: There) -> None:
        with connected() as (_, desk):
            began = time.monotonic()
            slow = desk.slow(30, 0.1)
            assert next(slow) == 0
            assert time.monotonic() - began < 2.5
            slow.close()  # type: ignore[attr-defined]

    def test_who_stops_asking_gets_no_more(self, there: There) -> None:
        with connected() as (_, desk):
            numbers = desk.numbers(1_000_000)
            assert list(islice(numbers, 10)) == list(range(10))
            produced = desk.produced()
            assert produced < 100
            for _ in range(10):
                desk.add(1)
            assert desk.produced() == produced
            assert next(numbers) == 10

    def test_too_slow(self, there: There) -> None:
        with connected() as (connection, desk):
            slow = desk.slow(3, 0.5)
            connection.options = connection.options._replace(timeout=0.05)
            with pytest.raises(ReceiveTimeoutError):
                next(slow)
            with pytest.raises(StopIteration):
                next(slow)


class TestEnds:
    def test_closed_early(self, there: There) -> None:
        with connected() as (_, desk):
            with closing(desk.numbers(1_000_000)) as numbers:  # type: ignore[type-var]
                assert next(numbers) == 0
            assert eventually(lambda: desk.closed() == 1)
            assert list(numbers) == []
            assert there.call(roles.statistics, "desk")[0].objects == 1

    def test_dropped(self, there: There) -> None:
        with connected() as (_, desk):
            for number in desk.numbers(1_000_000):
                if number == 100:
                    break
            gc.collect()
            assert eventually(lambda: desk.closed() == 1)

    def test_never_begun(self, there: There) -> None:
        with connected() as (_, desk):
            desk.numbers(5)
            assert eventually(lambda: there.call(roles.statistics, "desk")[0].objects == 1)

    def test_an_error_after_the_items_before_it(self, there: There) -> None:
        with connected() as (_, desk):
            numbers = desk.numbers(70, fail=True)
            assert list(islice(numbers, 70)) == list(range(70))
            with pytest.raises(RemoteError, match="after all numbers") as caught:
                next(numbers)
            assert "in numbers\n" in caught.value.traceback
            assert list(numbers) == []
            assert desk.add(1) == 2

    def test_an_error_of_ours_in_their_call(self, there: There) -> None:
        def failing() -> Iterator[int]:
            yield 1
            raise OSError("ours")

        with connected() as (_, desk):
            with pytest.raises(RemoteError, match="ours") as caught:
                desk.total(failing())
            assert caught.value.type == "builtins.OSError"

    def test_an_item_that_is_none_of_the_type(self, there: There, reports: object) -> None:
        def wrong() -> Iterator[int]:
            yield 1
            yield "two"  # type: ignore[misc]

        with connected() as (_, desk):
            with pytest.raises(RemoteError, match="valid integer"):
                desk.total(wrong())
            assert desk.add(1) == 2
        assert reports.take()  # type: ignore[attr-defined]

    def test_with_the_connection(self, there: There) -> None:
        with connected() as (_, desk):
            numbers = desk.numbers(1_000_000)
            assert next(numbers) == 0
        with pytest.raises(InvalidPortError):
            list(numbers)
        with connected() as (_, desk):
            assert eventually(lambda: desk.closed() == 1)

    def test_many_are_limited(self, there: There) -> None:
        there.call(roles.serve, "small", {"max_objects": 5})
        with connected("small") as (_, desk):
            streams = [desk.numbers(1000) for _ in range(4)]
            with pytest.raises(RemoteError, match="which is the limit"):
                desk.numbers(1)
            assert [next(stream) for stream in streams] == [0] * 4


class TestThreads:
    def test_one_asks_at_a_time(self, there: There) -> None:
        began, going_on = threading.Event(), threading.Event()

        def ours() -> Iterator[int]:
            began.set()
            assert going_on.wait(PATIENCE)
            yield 1

        with LoopThread() as thread, connected(loop=thread.loop) as (_, desk):
            doubled = desk.doubled(ours())
            running = Background(lambda: next(doubled))
            assert began.wait(PATIENCE)
            with pytest.raises(ValueError, match="already"):
                next(doubled)
            going_on.set()
            assert running.result() == 2

    def test_closed_while_it_is_asked(self, there: There) -> None:
        began, going_on = threading.Event(), threading.Event()

        def ours() -> Iterator[int]:
            began.set()
            assert going_on.wait(PATIENCE)
            yield 1

        with LoopThread() as thread, connected(loop=thread.loop) as (_, desk):
            doubled = desk.doubled(ours())
            running = Background(lambda: next(doubled, None))
            assert began.wait(PATIENCE)
            doubled.close()  # type: ignore[attr-defined]
            going_on.set()
            assert running.result() is None
