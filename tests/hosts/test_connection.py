"""What a connection between two hosts knows of the other's kernel."""

from __future__ import annotations

import socket
from contextlib import closing

from portkit_transports.socket.connection import Connection
from tests.hosts.network import Network
from tests.support import PATIENCE, eventually


def test_what_is_on_its_way_is_known_from_what_has_arrived(network: Network) -> None:
    right = network.right
    with closing(right.inside(lambda: socket.create_server((right.address, 0)))) as listener:
        name = listener.getsockname()
        dialled = network.left.inside(lambda: socket.create_connection(name, PATIENCE))
        accepted, _ = listener.accept()
    with closing(accepted), closing(Connection.taking(dialled)) as connection:
        assert eventually(lambda: connection.acknowledged() is None)
        network.impair(delay=0.1)
        connection.send(bytes(1000))
        before = connection.acknowledged()
        assert before is not None
        assert eventually(lambda: connection.acknowledged() is None)
        network.cut()
        connection.send(b"lost")
        assert connection.acknowledged() == before + 1000
