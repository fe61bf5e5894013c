"""Connections over TCP without TLS."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from portkit import _fork
from portkit.errors import ProtocolError
from portkit.message import Sender
from portkit_transports.socket.connection import NOT_BOTH_TLS, Connection, host_of

TLS_BEGINNING = b"\x16\x03"
"""How a connection begins that speaks TLS."""
_DRAINED_AT_ONCE = 1 << 16


class TCPChannel:
    """A connected TCP socket; see :class:`portkit.link.channel.Channel`.

    Args:
        connection: which it owns from now on.
    """

    __slots__ = (
        "__weakref__",
        "_has_begun",
        "_receive",
        "_send",
        "_socket",
        "carries_descriptors",
        "has_unread",
        "sender",
    )

    def __init__(self, connection: socket.socket) -> None:
        owned = Connection.taking(connection)
        self._socket = owned
        self._send = owned.send
        self._receive = owned.recv_into
        self._has_begun = False
        self.carries_descriptors: bool = False
        self.has_unread: bool = False
        self.sender: Sender | None = Sender(host=host_of(owned))
        _fork.close_in_child(self)

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def read(self, buffer: memoryview) -> tuple[int, Sequence[int]]:
        """As the protocol says.

        Raises:
            ProtocolError: the peer speaks TLS.
        """
        size = self._receive(buffer)
        if not self._has_begun:
            self._has_begun = True
            if buffer[:2] == TLS_BEGINNING and buffer[2]:  # which of a frame's length is 0
                raise ProtocolError(NOT_BOTH_TLS)
        return size, ()

    def write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        """As the protocol says; there are no descriptors."""
        return self._send(data)

    def drain(self) -> int:
        """Drop what the peer sends; how much that was, 0 at its end.

        Raises:
            BlockingIOError: there is nothing now.
            OSError: the connection is lost.
        """
        return len(self._socket.recv(_DRAINED_AT_ONCE))

    def acknowledged(self) -> int | None:
        """As the protocol says."""
        return self._socket.acknowledged()

    def finish(self) -> bool:
        """As the protocol says: what the peer sends to a closed socket would reset it."""
        self._socket.finish()
        return True

    def shutdown(self) -> None:
        """As the protocol says."""
        self._socket.end()

    def close_in_child(self) -> None:
        """Close the child's copy; the connection is the parent's."""
        self._socket.close()
