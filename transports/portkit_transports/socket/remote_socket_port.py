"""Handles to ports that are known by their addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from portkit._arguments import check_timeout
from portkit._handlers import Handler
from portkit.address import Address
from portkit.link import service
from portkit.link.remote_port import RemotePort, Right
from portkit.runloop import RunLoop
from portkit_transports.socket.addressed_right import AddressedRight
from portkit_transports.socket.dialling import Destination
from portkit_transports.socket.reaching import ConnectionEvent

ConnectionHandler: TypeAlias = "Callable[[RemoteSocketPort, ConnectionEvent], object]"
"""Called with the port and what became of its connection."""


class RemoteSocketPort(RemotePort):
    """A handle to the port at an address; see ``SocketPort.remote``.

    Args:
        destination: the address, and how to get there.
        right: to the port there, if there is a handle already.
    """

    __slots__ = ("_connection_handlers", "_destination")

    def __init__(self, destination: Destination, right: Right | None = None) -> None:
        super().__init__(AddressedRight.of(destination) if right is None else right)
        self._destination = destination
        self._connection_handlers: list[Handler] = []

    @property
    def address(self) -> Address:
        """``socket://HOST:PORT``, as it was asked for."""
        return Address(scheme="socket", target=f"//{self._destination}")

    @property
    def is_connected(self) -> bool:
        """Whether the port was reached, and nothing else is known since."""
        right = self._right
        return isinstance(right, AddressedRight) and right.is_connected

    def connect(self, timeout: float | None = 5.0) -> None:
        """Connect now, and not with the first use; nothing where there is a connection.

        Args:
            timeout: seconds to wait; 0 or less begins and does not wait, None waits for ever.

        Raises:
            TransportError: the port cannot be reached; the message says what stands in the way.
            NameNotFoundError: there is no such host.
            AuthenticationError: one side refused the other.
            SendTimeoutError: it is not connected yet; that goes on.
            InvalidPortError: the port is gone, or this handle was invalidated.
        """
        check_timeout(timeout)
        self._reach()
        right = self._right
        if isinstance(right, AddressedRight):
            right.connect(timeout)

    def add_connection_handler(
        self, handler: ConnectionHandler, *, loop: RunLoop | None = None
    ) -> None:
        """Have ``handler`` called when the connection was lost, and when it is there again.

        Only with ``reconnect``; else the end of the connection is the port's. It is called in the
        common modes of ``loop``, by default the calling thread's run loop, or on the service
        thread where that thread has none.

        Raises:
            TypeError: ``handler`` is not callable.
        """
        self._connection_handlers.append(Handler(handler, loop))
        right = self._right
        if right is not None:
            self._watch(right)

    def _connection_changed(self, event: ConnectionEvent) -> bool:
        if self._right is None:
            return False  # this handle has ended; others go on
        for handler in self._connection_handlers:
            handler.perform(self, service.loop(), event)
        return bool(self._connection_handlers)

    def _twin(self, right: Right) -> RemoteSocketPort:
        return RemoteSocketPort(self._destination, right)
