"""A peer that is no portkit: it sends what bytes a test likes, and shows what comes back."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from portkit import MachPort
from portkit.link import frames
from portkit.link.frames import HEADER, HEADER_SIZE, Kind
from portkit.link.greeting import greeting
from portkit.link.link import Link
from portkit.link.node import Node, Settings
from portkit_transports.message.channel import UnixChannel
from tests.link.helpers import Pair
from tests.support import PATIENCE, eventually

OPENED = 1 << 63
DOOR = OPENED | 1
"""The raw peer's number for the victim's port, once it was opened."""


class Came(NamedTuple):
    """A frame from the victim."""

    kind: int
    flags: int
    entries: int
    body: bytes


class Victim(Pair):
    """A pair of nodes whose right one is attacked, while the link between them has to go on.

    Attributes:
        door: a port of the right side that anybody may open, by the id ``DOOR_ID``.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.door = MachPort(queue_limit=4)
        self.healthy = MachPort()
        self.ports[b"D" * 16] = self.door
        self.handle = self.open(self.healthy)

    def check_unharmed(self) -> None:
        """The link that nobody attacked carries messages both ways."""
        self.handle.send(b"still here", reply_port=self.healthy)
        message = self.healthy.receive(PATIENCE)
        assert message.data == b"still here"
        assert self.left.is_closed is False
        assert self.right.is_closed is False

    def close(self) -> None:
        """End all."""
        self.door.invalidate()
        self.healthy.invalidate()
        super().close()


class RawPeer:
    """One end of a socket whose other end a node has.

    Args:
        node: the victim.
        dialled: whether the node believes that it made the connection.
    """

    def __init__(self, node: Node, *, dialled: bool = False) -> None:
        self.node = node
        self.socket, far = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        channel = UnixChannel(far)
        self.link: Link = node.dial(channel) if dialled else node.accept(channel)
        self._bytes = b""
        self.descriptors: list[int] = []

    def hello(self, kind: Kind = Kind.HELLO) -> bytes:
        """A greeting as it should be."""
        return frames.record(kind, greeting(b"r" * 16, os.getpid(), Settings().limits))

    def greet(self) -> Self:
        """Do the handshake."""
        self.send(self.hello())
        assert self.next().kind == Kind.WELCOME
        return self

    def open_door(self) -> Self:
        """Get a right to the victim's door."""
        self.send(frames.open_right(DOOR, b"D" * 16, self.node.incarnation))
        assert self.next().kind == Kind.CREDIT
        return self

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send bytes; descriptors with the first of them."""
        if descriptors:
            rights = array.array("i", descriptors)
            self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        else:
            self.socket.sendall(data)

    def send_until_refused(self, data: bytes) -> None:
        """Send bytes of which the victim may not read all."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def next(self) -> Came:
        """The next frame from the victim; EOFError where it has closed."""
        while len(self._bytes) < HEADER_SIZE or len(self._bytes) < self._length():
            more = self._read()
            if not more:
                raise EOFError
            self._bytes += more
        length = self._length()
        frame, self._bytes = self._bytes[:length], self._bytes[length:]
        _, kind, flags, count = HEADER.unpack_from(frame)
        return Came(kind, flags, count, frame[HEADER_SIZE:])

    def rest(self) -> list[Came]:
        """All frames until the victim closes."""
        found: list[Came] = []
        while True:
            try:
                found.append(self.next())
            except EOFError:
                return found

    def _length(self) -> int:
        return int(HEADER.unpack_from(self._bytes)[0])

    def _read(self) -> bytes:
        try:
            data, ancillary, _, _ = self.socket.recvmsg(1 << 16, 4096)
        except ConnectionResetError:  # it did not read all that was sent
            return b""
        for _, _, body in ancillary:
            found = array.array("i")
            found.frombytes(body[: len(body) // 4 * 4])
            self.descriptors += found
        return data

    def is_dropped(self) -> bool:
        """Whether the victim closed its end, and the node knows the link no more."""
        self.rest()
        return eventually(lambda: self.link.is_closed and self.link not in self.node.links)

    def close(self) -> None:
        """Go."""
        self.socket.close()
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()
        assert eventually(lambda: self.link.is_closed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
