"""Ports that are opened again over another connection, by peers that mean no good."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from portkit.link import frames, service
from portkit.link.table import ATTEMPTS, OPENED
from tests.link.raw import RawPeer, Victim
from tests.support import PATIENCE, eventually


def test_many_connections_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each has the others read first, which have the others read first."""
    with Victim() as victim, ExitStack() as peers:
        node = victim.right_node
        node.settings = node.settings._replace(max_links_per_process=1000)
        crowd = [peers.enter_context(RawPeer(node)).greet() for _ in range(250)]
        goes_on = threading.Event()
        service.call(lambda: goes_on.wait(PATIENCE))
        for number, peer in enumerate(crowd):
            right = OPENED + ATTEMPTS + number
            peer.send(frames.open_right(right, b"D" * 16, node.incarnation))
        goes_on.set()
        assert eventually(lambda: all(peer.link.table._last_opened > OPENED for peer in crowd))
        assert not any(peer.link.is_closed for peer in crowd)
        assert not caplog.records
        victim.check_unharmed()
