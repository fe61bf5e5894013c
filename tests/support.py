"""What tests of several folders share. Every wait here ends by an event; its bound is generous."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from portkit import DEFAULT_MODE, InputSource, RunLoop

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a wait that should have ended long ago is a failure."""

_DESCRIPTORS = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")


def complaints(stderr: str) -> str:
    """What a program in development mode wrote there, but for asyncio's remarks on what took long.

    Here others take the processor's time as well.
    """
    return re.sub(r"^Executing <.* took [\d.]+ seconds\n", "", stderr, flags=re.MULTILINE)


def unmeasured(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a program that is to be interrupted: its coverage is not taken.

    An interrupt in the wrong place leaves coverage's own lock locked.
    """
    return {name: value for name, value in variables.items() if not name.startswith("COVERAGE")}


def run_on_thread(fn: Callable[[], T], *, timeout: float = PATIENCE) -> T:
    """Call ``fn`` on a new thread, which so has a run loop of its own, and wait for its end.

    Returns what ``fn`` returned, or raises what it raised.
    """
    outcome: Future[T] = Future()

    def body() -> None:
        try:
            outcome.set_result(fn())
        except BaseException as error:
            outcome.set_exception(error)

    thread = Thread(target=body, name="test", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"{fn!r} did not end within {timeout} s")
    return outcome.result(0)


def keep_alive(loop: RunLoop, mode: str = DEFAULT_MODE) -> InputSource:
    """A source that nobody signals, added so that the mode is not empty (R2)."""
    source = InputSource(lambda source: None)
    loop.add_source(source, mode)
    return source


class LoopThread:
    """A thread that runs its loop in ``mode`` while the ``with`` lasts, and is joined after it.

    Attributes:
        loop: its run loop, which is running (or about to) when the ``with`` begins.
    """

    loop: RunLoop

    def __init__(self, mode: str = DEFAULT_MODE) -> None:
        self._mode = mode
        self._ready = Event()
        self._ending = False
        self._error: BaseException | None = None
        self.thread = Thread(target=self._body, name="loop", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        assert self._ready.wait(PATIENCE), "the loop's thread did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending = True
        self.loop.perform(self.loop.stop, modes=self._mode)
        self.thread.join(PATIENCE)
        if error is None:
            assert not self.thread.is_alive(), "the loop's thread did not end"
            if self._error is not None:
                raise self._error

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Call ``fn`` on the loop's thread, in its mode, and return what it returns."""
        return self.loop.perform_and_wait(fn, *args, modes=self._mode, timeout=PATIENCE)

    def _body(self) -> None:
        self.loop = RunLoop.current()
        keep_alive(self.loop, self._mode)
        self._ready.set()
        try:
            while not self._ending:
                self.loop.run_in_mode(self._mode, None)
        except BaseException as error:
            self._error = error


class Reports(logging.Handler):
    """What portkit logs at ERROR: errors that no caller was there to get."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)

    def take(self) -> list[BaseException | None]:
        """The exceptions reported since the last time, which the test expected."""
        taken, self.records = self.records, []
        return [None if record.exc_info is None else record.exc_info[1] for record in taken]


def eventually(condition: Callable[[], object], timeout: float = PATIENCE) -> bool:
    """Whether ``condition`` comes true in time: for what nobody announces, such as a sleep.

    Not for what a test can be told of: an Event, a queue or a join is exact.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(1.5 * pause, 0.02)  # what takes longer needs the processor more than we do
    return True


def open_descriptors() -> dict[int, str]:
    """This process's descriptors, and what each stands for where the system says."""
    found: dict[int, str] = {}
    for entry in list(_DESCRIPTORS.iterdir()):
        try:
            os.fstat(int(entry.name))
        except OSError:
            continue  # the one that listed the folder
        try:
            found[int(entry.name)] = str(entry.readlink())
        except OSError:
            found[int(entry.name)] = "?"
    return found


def signals_ring() -> int:
    """The descriptor that signals ring, or -1."""
    found = signal.set_wakeup_fd(-1)
    if found != -1:
        signal.set_wakeup_fd(found, warn_on_full_buffer=False)
    return found


class Leftovers:
    """Threads and descriptors that are there now but were not when this object was made.

    What signals ring counts as well, which is why it is made and asked on the main thread.
    """

    def __init__(self) -> None:
        self._ring = signals_ring()
        self._threads = set(threading.enumerate())
        self._descriptors = open_descriptors()

    def found(self) -> list[str]:
        """What is left, in words."""
        threads = [f"{t!r}" for t in threading.enumerate() if t not in self._threads]
        descriptors = [
            f"descriptor {fd}: {what}"
            for fd, what in open_descriptors().items()
            if self._descriptors.get(fd) != what
        ]
        ring = signals_ring()
        rung = [] if ring == self._ring else [f"signals ring descriptor {ring}"]
        return threads + descriptors + rung

    def settle(self, timeout: float = 5.0) -> list[str]:
        """What is left once garbage is collected and threads that are ending have ended."""
        gc.collect()
        eventually(lambda: not self.found(), timeout)
        return self.found()
