"""Connections that do what systems do on bad days, and two nodes joined by one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from portkit import Port
from portkit.link.node import Node, Settings
from portkit.link.remote_port import RemotePort
from portkit.local_port import LocalPort
from portkit.message import Sender
from portkit_transports.message.channel import UnixChannel


class FaultyChannel:
    """A channel in front of a real one.

    Args:
        connection: the real one's.
        most: bytes that one call moves at most.
        again: every other call says that nothing can be done now.
        fault: called before each call with "read" or "write" and how many calls there were; may
            raise.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        most: int = 1 << 20,
        again: bool = False,
        fault: Callable[[str, int], None] = lambda what, calls: None,
    ) -> None:
        self.real = UnixChannel(connection)
        self.sender: Sender | None = self.real.sender
        self.carries_descriptors = True
        self.calls = 0
        self._most = most
        self._again = again
        self._fault = fault
        self._turns = {"read": False, "write": False}

    def fileno(self) -> int:
        return self.real.fileno()

    def read(self, buffer: memoryview) -> tuple[int, Sequence[int]]:
        self._call("read")
        return self.real.read(buffer[: self._most])

    def write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        self._call("write")
        return self.real.write(data[: self._most], descriptors)

    @property
    def has_unread(self) -> bool:
        return self.real.has_unread

    def acknowledged(self) -> int | None:
        return self.real.acknowledged()

    def finish(self) -> bool:
        return self.real.finish()

    def shutdown(self) -> None:
        self.real.shutdown()

    def _call(self, what: str) -> None:
        self.calls += 1
        if self._again:
            self._turns[what] = not self._turns[what]
            if self._turns[what]:
                raise BlockingIOError
        self._fault(what, self.calls)


Wrap = Callable[[socket.socket], "UnixChannel | FaultyChannel"]


class Wired:
    """Two nodes joined by channels of the test's making, not greeted yet.

    Args:
        left, right: make the channel of each side.
    """

    def __init__(self, left: Wrap = UnixChannel, right: Wrap = UnixChannel) -> None:
        self.ports: dict[bytes, LocalPort] = {}
        self.left_node = Node(Settings())
        self.right_node = Node(Settings(), find=self.ports.get)
        near, far = socket.socketpair()
        self.right = self.right_node.accept(right(far))
        self.left = self.left_node.dial(left(near))

    def open(self, port: LocalPort) -> Port:
        """A handle on the left to a port of the right side, as by its address."""
        port_id = len(self.ports).to_bytes(16, "little")
        self.ports[port_id] = port
        return RemotePort(self.left.table.open(port_id, self.right_node.incarnation))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.left_node.close()
        self.right_node.close()
