"""The clock that run loops and timers read, replaceable so that timer tests need not wait.

Dates are seconds on this clock, durations are seconds. Only loops and timers use it: waiting for
a message, for room or for an answer always takes real time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Clock(Protocol):
    """What a run loop asks of a clock."""

    def now(self) -> float:
        """The date now, in seconds; never goes back."""
        ...

    def sleep_time(self, until: float) -> float | None:
        """How many real seconds a loop may sleep towards ``until``; None: until it is woken."""
        ...


class SystemClock:
    """``time.monotonic``."""

    now: staticmethod[[], float] = staticmethod(time.monotonic)

    def sleep_time(self, until: float) -> float | None:
        """The seconds left, at least 0."""
        return None if until == math.inf else max(0.0, until - time.monotonic())


class ManualClock:
    """A clock that stands still until somebody moves it, for tests.

    Args:
        start: the first date.
        jump: let a loop that would sleep until a date jump there at once instead. For tests in
            which nothing but timers and deadlines can wake the loop.
    """

    def __init__(self, start: float = 1000.0, *, jump: bool = False) -> None:
        self._now = start
        self._jump = jump

    def now(self) -> float:
        """The date this clock was last moved to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds``. A sleeping loop notices at its next wake-up: wake it."""
        if not seconds >= 0:
            raise ValueError(f"a clock only moves forward, not by {seconds}")
        self._now += seconds

    def sleep_time(self, until: float) -> float | None:
        """0 if ``until`` has come, or when jumping, after having moved there; else None."""
        if self._jump and until != math.inf:
            self._now = max(self._now, until)
        return 0.0 if until <= self._now else None


_system = SystemClock()
now: Callable[[], float] = _system.now
"""The date now, on the clock in use. Call it as ``clock.now()``: :func:`use` replaces it."""
sleep_time: Callable[[float], float | None] = _system.sleep_time
"""The clock in use's :meth:`Clock.sleep_time`."""


@contextmanager
def use(replacement: Clock) -> Iterator[None]:
    """Have every loop and timer of the process read ``replacement`` inside the ``with``."""
    global now, sleep_time
    before = now, sleep_time
    now, sleep_time = replacement.now, replacement.sleep_time
    try:
        yield
    finally:
        now, sleep_time = before
