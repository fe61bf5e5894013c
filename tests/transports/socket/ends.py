"""Ports and handles for the tests of what becomes of connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from portkit import Port, PortMessage, RunLoop, SocketPort
from portkit.link.link import Link
from portkit.link.node import Settings
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.port import SETTINGS
from portkit_transports.socket.reaching import ConnectionEvent, node_of
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.proxy import Proxy

SOON = Backoff(initial=0.01, maximum=0.05)
ASK = 1
NEVER = 2


class Server:
    """A delegate that keeps what comes, answers what asks, and forgets some requests."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.asked: list[PortMessage] = []
        self.ports: list[Port] = []

    def __call__(self, message: PortMessage) -> Any:
        """Handle the message."""
        if message.msgid == ASK:
            return message.data
        if message.msgid == NEVER:
            message.defer()
            self.asked.append(message)
            return None
        self.kept.append(message.data or b"")
        self.ports += message.ports
        return None

    def wait(self, count: int) -> bool:
        """Whether that many came."""
        return eventually(lambda: len(self.kept) >= count)


class Watch:
    """What a handle tells, on that loop."""

    def __init__(self, handle: Port, loop: RunLoop) -> None:
        self.ended: list[Port] = []
        self.events: list[ConnectionEvent] = []
        handle.add_invalidation_handler(self.ended.append, loop=loop)
        if isinstance(handle, RemoteSocketPort):
            handle.add_connection_handler(self._changed, loop=loop)

    def _changed(self, handle: RemoteSocketPort, event: ConnectionEvent) -> None:
        self.events.append(event)

    def wait(self, count: int) -> bool:
        """Whether there were so many events."""
        return eventually(lambda: len(self.events) >= count)

    @property
    def unacknowledged(self) -> int:
        """How many messages were reported, in all."""
        return sum(event.unacknowledged for event in self.events)


class Ends:
    """Makes both ends, and ends them after the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._loop = stack.enter_context(LoopThread()).loop

    def watch(self, handle: Port) -> Watch:
        """What becomes of the handle."""
        return Watch(handle, self._loop)

    def settle(self) -> None:
        """Have all been told of what is to be told of by now."""
        self._loop.perform_and_wait(lambda: None, timeout=PATIENCE)

    def serve(self, delegate: Any, address: Any = ("127.0.0.1", 0), **options: Any) -> SocketPort:
        """A port on a loop of its own."""
        loop = self._stack.enter_context(LoopThread())
        port = self._stack.enter_context(SocketPort(address, delegate, **options))
        loop.call(loop.loop.add_port, port)
        return port

    def proxy(self, port: SocketPort) -> Proxy:
        """A wire to the port."""
        return self._stack.enter_context(Proxy(place(port)))

    def remote(self, end: SocketPort | Proxy, **options: Any) -> RemoteSocketPort:
        """A handle to the port, perhaps over the wire."""
        host, number = (end.host, end.port) if isinstance(end, Proxy) else place(end)
        return self._stack.enter_context(SocketPort.remote(host, number, **options))


def place(port: SocketPort) -> tuple[str, int]:
    """Where a port listens."""
    assert port.address is not None, "it listens"
    host, _, number = port.address.target[2:].rpartition(":")
    return host.strip("[]"), int(number)


def dialled(settings: Settings = SETTINGS) -> tuple[Link, ...]:
    """The links that this process dialled with those settings."""
    return node_of(settings).links


@pytest.fixture
def ends(no_leftovers: None) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack)
    assert eventually(lambda: not dialled()), "a link stayed that nobody needs"
