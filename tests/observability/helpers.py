"""What the tests of hooks, spans and metrics share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import portkit
from portkit import Hook, Port, PortMessage, RunLoop
from portkit.hooks import Outgoing
from tests.support import PATIENCE


@contextmanager
def busy(loop: RunLoop) -> Iterator[None]:
    """Have the loop in the midst of a call while the ``with`` lasts."""
    begun, release = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        release.wait()

    loop.perform(hold)
    assert begun.wait(PATIENCE)
    try:
        yield
    finally:
        release.set()


@contextmanager
def hooked(*hooks: Hook) -> Iterator[None]:
    """Have these hooks installed while the ``with`` lasts."""
    for hook in hooks:
        portkit.add_hook(hook)
    try:
        yield
    finally:
        for hook in hooks:
            portkit.remove_hook(hook)


class Seen(Hook):
    """A hook that writes down what it sees, in order, and gives messages the headers it was told.

    Attributes:
        events: such as ``"+send"``, ``"-send"`` or ``"-deliver ValueError"``.
        outgoing: what was sent.
    """

    def __init__(self, name: str = "", /, **headers: str) -> None:
        self.name = name
        self.headers = headers
        self.events: list[str] = []
        self.outgoing: list[Outgoing] = []
        self.note: Callable[[str], object] = self.events.append

    @contextmanager
    def _around(self, what: str) -> Iterator[None]:
        self.note(f"{self.name}+{what}")
        try:
            yield
        except BaseException as error:
            self.note(f"{self.name}-{what} {type(error).__name__}")
            raise
        else:
            self.note(f"{self.name}-{what}")

    @contextmanager
    def sending(self, outgoing: Outgoing) -> Iterator[None]:
        """Write it down."""
        self.outgoing.append(outgoing)
        outgoing.headers.update(self.headers)
        with self._around(outgoing.kind.value):
            yield

    @contextmanager
    def delivering(self, port: Port, message: PortMessage) -> Iterator[None]:
        """Write it down."""
        assert message.receive_port is port
        with self._around("deliver"):
            yield

    def received(self, port: Port, message: PortMessage) -> None:
        """Write it down."""
        self.note(f"{self.name}received {message.msgid}")
