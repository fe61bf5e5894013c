"""Peers that keep to the protocol, and mean no good."""

from __future__ import annotations

import pytest

from portkit.link import frames
from portkit.link.frames import Kind
from portkit.link.node import Settings
from tests.link.raw import DOOR, RawPeer, Victim


def test_a_port_that_is_opened_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each of these rights has a window of its own, and the port's queue has to hold them all."""
    most = Settings().max_rights_per_port
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet()
        node = victim.right_node
        numbers = range(DOOR, DOOR + most)
        peer.send(b"".join(frames.open_right(n, b"D" * 16, node.incarnation) for n in numbers))
        assert [peer.next().kind for _ in numbers] == [Kind.CREDIT] * most
        peer.send(frames.release(DOOR, 1))  # makes room for another
        peer.send(frames.open_right(DOOR + most, b"D" * 16, node.incarnation))
        assert peer.next().kind == Kind.CREDIT
        assert len(victim.door._senders) == most
        peer.send(frames.open_right(DOOR + most + 1, b"D" * 16, node.incarnation))
        assert peer.is_dropped()
        assert f"more than {most} times" in caplog.text
        assert not victim.door._senders
        victim.check_unharmed()


def test_a_flood_of_pings_has_each_right_looked_at_once() -> None:
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        looked: list[int] = []
        table = peer.link.table
        grant_all = table.grant_all
        table.grant_all = lambda: (looked.append(1), grant_all())[1]  # type: ignore[func-returns-value,method-assign]
        nobody = frames.open_right(DOOR + 1, b"N" * 16, victim.right_node.incarnation)
        peer.send(frames.ping() * 1000 + nobody)
        while peer.next().kind != Kind.DEAD:
            pass
        assert 0 < len(looked) < 100
        victim.check_unharmed()
