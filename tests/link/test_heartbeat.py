"""Peers that are gone without a word."""

from __future__ import annotations

from itertools import count
from threading import Event

import pytest

from portkit import MachPort
from portkit.link import heartbeat, service
from portkit.link.node import Node, Settings
from portkit_transports.message.channel import UnixChannel
from tests.link.helpers import Pair
from tests.support import eventually

QUICK = Settings(heartbeat=0.3)


def test_a_silent_peer_that_answers_lives() -> None:
    with Pair(QUICK) as pair, MachPort() as port:
        handle = pair.open(port)
        read = pair.left.incoming.bytes_read
        assert eventually(lambda: pair.left.incoming.bytes_read > read + 32)
        assert handle.is_valid


def test_a_peer_that_says_nothing_is_gone() -> None:
    with Pair(QUICK) as pair, MachPort() as port:
        handle = pair.open(port)
        pair.right.incoming._busy.acquire()  # the peer's process hangs: nobody reads there
        assert eventually(lambda: not handle.is_valid)
        pair.right.incoming._busy.release()


def test_a_peer_that_takes_what_is_sent_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = count()
    looks = count()
    stops = Event()

    def acknowledged(channel: UnixChannel) -> int:
        next(looks)
        return -1 if stops.is_set() else next(taken)

    monkeypatch.setattr(UnixChannel, "acknowledged", acknowledged)
    with Pair(QUICK) as pair, MachPort() as port:
        handle = pair.open(port)
        pair.right.incoming._busy.acquire()  # it says nothing, but its host takes the data
        assert eventually(lambda: next(looks) > 40)  # far more beats than silence is given
        assert handle.is_valid
        stops.set()
        assert eventually(lambda: not handle.is_valid)
        pair.right.incoming._busy.release()


def test_one_side_may_do_without() -> None:
    with Pair(Settings(heartbeat=None), QUICK) as pair, MachPort() as port:
        handle = pair.open(port)
        read = pair.left.incoming.bytes_read
        assert eventually(lambda: pair.left.incoming.bytes_read > read + 32)
        assert handle.is_valid


def test_many_links_are_looked_after_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is found dead by itself, and with the last one nothing is left to be done."""
    monkeypatch.setattr(heartbeat, "_TOGETHER", 2)
    node, beats = Node(QUICK), [Pair(QUICK) for _ in range(3)]
    for pair in beats:
        loop = service.loop()
        assert loop is not None
        node._heartbeats.add(pair.left, loop)  # type: ignore[union-attr]
    groups = node._heartbeats._groups  # type: ignore[union-attr]
    try:
        assert [len(group.members) for group in groups] == [2, 1]
        beats[1].right.incoming._busy.acquire()  # the peer's process hangs
        assert eventually(lambda: beats[1].left.is_closed)
        assert not beats[0].left.is_closed
        beats[1].right.incoming._busy.release()
        for pair in beats:
            node._heartbeats.remove(pair.left)  # type: ignore[union-attr]
        assert groups == []
    finally:
        for pair in beats:
            pair.close()
