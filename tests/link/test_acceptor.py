"""Listening sockets that are closed while somebody connects."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from portkit import RunLoop
from portkit.link import service
from portkit.link.acceptor import Acceptor
from tests.support import PATIENCE, eventually, run_on_thread


def test_the_service_thread_stays_for_who_is_handed_on(caplog: pytest.LogCaptureFixture) -> None:
    """Else who is handed on would be served by two threads at once, the old one and a new one."""
    seen: list[object] = []

    def accepted(connection: socket.socket, address: Any) -> None:
        with connection:
            run_on_thread(lambda: acceptor.close(lambda: seen.append("closed")))
            seen.append(service.loop() is RunLoop.current())

    listening = socket.create_server(("127.0.0.1", 0))
    place = listening.getsockname()
    acceptor = Acceptor(listening, accepted)
    with socket.create_connection(place, PATIENCE) as connection:
        assert not connection.recv(1)
        assert eventually(lambda: len(seen) == 2)
    assert seen == [True, "closed"]
    assert eventually(lambda: service.loop() is None)
    assert not caplog.records
