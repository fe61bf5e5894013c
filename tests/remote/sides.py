"""The sides of a connection: another thread, or another process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from portkit import MachPort, Port
from portkit.local_port import LocalPort
from portkit.remote import Connection
from tests.ports.helpers import Background
from tests.remote.desk import Desk
from tests.support import PATIENCE, LoopThread
from tests.transports.processes.child import Child
from tests.transports.processes.roles import Here

T = TypeVar("T")


class ByReference:
    """Within a process; a way as those of ``tests.transports.processes.ways``."""

    def __init__(self) -> None:
        self._ports: dict[str, LocalPort] = {}

    def open(self, name: str, delegate: Any = None, *, queue_limit: int = 1024) -> LocalPort:
        """A port that others reach by that name."""
        self._ports[name] = port = MachPort(delegate, queue_limit=queue_limit)
        return port

    def anonymous(self, delegate: Any = None) -> LocalPort:
        """A port that others reach once it was sent to them."""
        return MachPort(delegate)

    def remote(self, name: str) -> Port:
        """A handle to the port of that name."""
        return self._ports[name]


class There(Protocol):
    """Another side, which calls what it is told to on its run loop."""

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Call it there; what it returns or raises."""
        ...

    def begin(self, fn: Callable[..., object], *args: Any) -> None:
        """Have it called there; :meth:`result` waits for it."""
        ...

    def result(self) -> Any:
        """What it returned or raised."""
        ...


class OnThread(LoopThread):
    """A thread of this process."""

    def begin(self, fn: Callable[..., object], *args: Any) -> None:
        """As :class:`There`."""
        self._begun = Background(lambda: self.call(fn, *args))

    def result(self) -> Any:
        """As :class:`There`."""
        return self._begun.result()


class InProcess:
    """Another process."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """As :class:`There`."""
        return self.child.call(fn, *args)

    def begin(self, fn: Callable[..., object], *args: Any) -> None:
        """As :class:`There`."""
        self.child.begin(fn, *args)

    def result(self) -> Any:
        """As :class:`There`."""
        return self.child.result()


@contextmanager
def connected(name: str = "desk", **options: Any) -> Iterator[tuple[Connection, Desk]]:
    """A connection to a desk, and that."""
    options.setdefault("timeout", PATIENCE)
    with Connection.to(Here.way.remote(name), **options) as connection:
        yield connection, connection.root(Desk)
