"""Calls that a thread with an event loop answers."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from portkit import TransportError
from portkit_transports.socket.async_thread import AsyncThread
from tests.ports.helpers import Background
from tests.support import PATIENCE, Reports, eventually, run_on_thread


class Counter(AsyncThread):
    """Waits, and says what became of it."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.ended = threading.Event()
        self.cancelled = threading.Event()
        super().__init__("counter", "the counter")

    async def serve(self, began: Callable[[], None], end: asyncio.Event) -> None:
        if self.fails == "before":
            raise TransportError("no such luck")
        began()
        try:
            await end.wait()
            if self.fails == "after":
                raise ValueError("out of luck")
        finally:
            self.ended.set()

    async def add(self, one: int, other: int) -> int:
        await asyncio.sleep(0)
        return one + other

    async def sleep(self, began: threading.Event) -> None:
        began.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def fail(self, error: Exception) -> None:
        raise error


@pytest.fixture
def counter() -> Iterator[Counter]:
    counter = Counter()
    yield counter
    counter.close()


def test_answers(counter: Counter) -> None:
    assert counter.call(partial(counter.add, 1, 2), 0) == 3
    assert run_on_thread(lambda: counter.call(partial(counter.add, 3, 4), None)) == 7


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("mine"), TransportError("x")])
def test_errors_come_back(counter: Counter, error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        counter.call(partial(counter.fail, error), 1)
    assert raised.value is error


def test_what_takes_too_long_is_cancelled(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portkit_transports.socket.async_thread._SLACK", 0.05)
    with pytest.raises(TransportError, match="counter does not answer"):
        counter.call(partial(counter.sleep, threading.Event()), 0)
    assert counter.cancelled.wait(PATIENCE)


def test_the_end_answers_who_waits(counter: Counter) -> None:
    began = threading.Event()
    waiting = Background(lambda: counter.call(partial(counter.sleep, began), None))
    assert began.wait(PATIENCE)
    counter.close()
    with pytest.raises(TransportError, match="counter is closed: make a new one"):
        waiting.result()
    assert counter.ended.is_set()


def test_closed(counter: Counter) -> None:
    counter.close()
    counter.close()
    assert counter.is_closed
    with pytest.raises(TransportError, match="counter is closed"):
        counter.call(partial(counter.add, 1, 2), 1)
    counter.call_soon(lambda: None)


def test_closed_again_and_again_while_others_call() -> None:
    """Whoever calls gets an answer or the error, and nothing is left unawaited."""
    for _ in range(20):
        counter = Counter()
        ends: list[object] = []

        def call(counter: Counter = counter, ends: list[object] = ends) -> None:
            try:
                while True:
                    assert counter.call(partial(counter.add, 1, 1), 1) == 2
            except TransportError as error:
                ends.append(error)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        counter.close()
        for caller in callers:
            caller.join(PATIENCE)
        assert len(ends) == 3
    gc.collect()


def test_it_cannot_begin() -> None:
    with pytest.raises(TransportError, match="no such luck"):
        Counter("before")


def test_it_ends_by_an_error(reports: Reports) -> None:
    counter = Counter("after")
    counter.close()
    assert eventually(lambda: reports.records)
    assert [str(error) for error in reports.take()] == ["out of luck"]


def test_the_end_of_the_process_closes() -> None:
    program = """
import asyncio
from portkit_transports.socket.async_thread import AsyncThread

class Polite(AsyncThread):
    async def serve(self, began, end):
        began()
        await end.wait()
        await asyncio.sleep(0.01)
        print("goodbye\\n", end="", flush=True)

one = Polite("one", "one")
two = Polite("two", "two")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.split() == ["goodbye", "goodbye"]
    assert not done.stderr
