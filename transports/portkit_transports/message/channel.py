"""Connections over Unix stream sockets, which carry descriptors and say who is at the other end."""

from __future__ import annotations

import os
import socket
import struct
import sys
from array import array
from collections.abc import Sequence

from portkit import _fork
from portkit.link.channel import MOST_DESCRIPTORS
from portkit.message import Sender

_INT_SIZE = array("i").itemsize
_ANCILLARY = socket.CMSG_LEN(MOST_DESCRIPTORS * _INT_SIZE)
_FLAGS = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_CUT_OFF = int(socket.MSG_CTRUNC)  # an int: the enum's arithmetic costs as much as the reading
_CREDENTIALS = struct.Struct("3i")


class UnixChannel:
    """A connected Unix stream socket; see :class:`portkit.link.channel.Channel`.

    Args:
        connection: which it owns from now on.
    """

    __slots__ = ("__weakref__", "_receive", "_send", "_socket", "carries_descriptors", "sender")

    def __init__(self, connection: socket.socket) -> None:
        owned = _Connection(connection.family, connection.type, 0, connection.detach())
        owned.setblocking(False)
        self._socket = owned
        self._send = owned.send
        self._receive = owned.recvmsg_into
        self.carries_descriptors: bool = True
        self.sender: Sender | None = peer_of(owned)
        _fork.close_in_child(self)

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def read(self, buffer: memoryview) -> tuple[int, Sequence[int]]:
        """As the protocol says. Descriptors that the kernel cut off are an error."""
        size, ancillary, flags, _ = self._receive([buffer], _ANCILLARY, _FLAGS)
        if not ancillary and not flags & _CUT_OFF:
            return size, ()
        found = array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(data[: len(data) - len(data) % _INT_SIZE])
        if flags & _CUT_OFF:
            for fd in found:
                os.close(fd)
            raise OSError("descriptors were cut off: this process has too many open")
        if not _FLAGS:
            for fd in found:
                os.set_inheritable(fd, False)
        return size, found

    def write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        """As the protocol says."""
        if not descriptors:
            return self._send(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
        return self._socket.sendmsg([data], [rights])

    @property
    def has_unread(self) -> bool:
        """Never: nothing is kept here."""
        return False

    def acknowledged(self) -> int | None:
        """None: nothing is on its way for any time."""
        return None

    def finish(self) -> bool:
        """Nothing is lost that lies in the peer's buffer."""
        return False

    def shutdown(self) -> None:
        """As the protocol says."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was quicker

    def close_in_child(self) -> None:
        """Close the child's copy; the connection is the parent's."""
        self._socket.close()


class _Connection(socket.socket):
    """Closes without a warning: it goes with its link, which is often found as garbage."""

    __slots__ = ()

    def __del__(self) -> None:
        self.close()


def peer_of(connection: socket.socket) -> Sender | None:
    """Who made the connection, or listens at its other end, as the kernel knows it."""
    try:
        return _peer_of(connection)
    except OSError:
        return None


if sys.platform == "linux":

    def _peer_of(connection: socket.socket) -> Sender:
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(data)
        return Sender(pid, uid)

else:

    def _peer_of(connection: socket.socket) -> Sender:
        # LOCAL_PEERCRED (struct xucred: version, uid, …) and LOCAL_PEERPID of SOL_LOCAL.
        sol_local, peercred, peerpid = 0, 1, 2
        _, uid = struct.unpack("II", connection.getsockopt(sol_local, peercred, 76)[:8])
        (pid,) = struct.unpack("i", connection.getsockopt(sol_local, peerpid, 4))
        return Sender(pid, uid)
