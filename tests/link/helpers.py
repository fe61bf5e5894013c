"""Two sides of a link in one process, joined by a real socket pair."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from portkit import MachPort, Port
from portkit.link.link import Link
from portkit.link.node import Node, Settings
from portkit.link.remote_port import RemotePort
from portkit.local_port import LocalPort
from portkit_transports.message.channel import UnixChannel
from tests.support import eventually


class Pair:
    """Two nodes, as of two processes, and the link between them; closed after the ``with``.

    Attributes:
        left, right: the two ends of the link; left has dialled.
        left_node, right_node: what they belong to.
    """

    def __init__(
        self, settings: Settings | None = None, right_settings: Settings | None = None
    ) -> None:
        chosen = settings or Settings()
        self.ports: dict[bytes, LocalPort] = {}
        self.left_node = Node(chosen)
        self.right_node = Node(right_settings or chosen, find=self.ports.get)
        near, far = socket.socketpair()
        self.right: Link = self.right_node.accept(UnixChannel(far))
        self.left: Link = self.left_node.dial(UnixChannel(near))
        self.left.incarnation = self.right_node.incarnation
        with self.left.lock:
            self.left.flush()  # the greeting, which else goes with the first message
        assert eventually(lambda: self.left.incoming.greeted and self.right.incoming.greeted)

    def open(self, port: LocalPort) -> Port:
        """A handle on the left to a port of the right side, as by its address."""
        port_id = len(self.ports).to_bytes(16, "little")
        self.ports[port_id] = port
        return RemotePort(self.left.table.open(port_id, self.right_node.incarnation))

    def across(self, port: Port) -> Port:
        """What arrives on the right for a port that the left sends, and the other way round."""
        with MachPort() as door:
            self.open(door).send(port)
            (found,) = door.receive(30.0).ports
            return found

    def close(self) -> None:
        """End both sides."""
        self.left_node.close()
        self.right_node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
