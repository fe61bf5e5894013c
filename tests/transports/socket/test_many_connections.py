"""A port with many connections: one more costs no more than the first."""

from __future__ import annotations

import pytest

from portkit import SocketPort
from portkit.link.link import Link
from portkit.link.node import Node
from tests.support import LoopThread


def test_a_new_connection_does_not_look_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def look(_: Node, link: Link, number: int) -> None:
        looked.append(number)

    monkeypatch.setattr(Node, "opened_again", look)
    with LoopThread() as server, SocketPort(delegate=lambda message: message.data) as port:
        server.call(server.loop.add_port, port)
        number = int(str(port.address).rpartition(":")[2])
        # Handles got with different arguments have a connection each.
        handles = [
            SocketPort.remote("127.0.0.1", number, connect_timeout=10.0 + each) for each in range(3)
        ]
        for handle in handles:
            assert handle.request(b"here").data == b"here"
        assert port.connections == 3
        for handle in handles:
            handle.invalidate()
    assert looked == []
