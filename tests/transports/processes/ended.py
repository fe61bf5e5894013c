"""What tests of the ends of ports use."""

from __future__ import annotations

from threading import Event

from portkit import Port
from tests.support import PATIENCE, LoopThread

AT_ONCE = 5.0
"""Seconds in which an end is known that the kernel tells of: without it, a heartbeat takes 10."""


class Ended:
    """Told of a port's end on a loop; ``wait`` returns once that has happened."""

    def __init__(self, port: Port, loop: LoopThread) -> None:
        self.calls: list[Port] = []
        self._event = Event()
        loop.call(port.add_invalidation_handler, self)

    def __call__(self, port: Port) -> None:
        self.calls.append(port)
        self._event.set()

    def wait(self, timeout: float = PATIENCE) -> bool:
        """Whether the port ended in time."""
        return self._event.wait(timeout)
