"""Peers that are gone without a word."""

from __future__ import annotations

from portkit import MachPort
from portkit.link.node import Settings
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


def test_one_side_may_do_without() -> None:
    with Pair(Settings(), QUICK) as pair, MachPort() as port:
        handle = pair.open(port)
        read = pair.left.incoming.bytes_read
        assert eventually(lambda: pair.left.incoming.bytes_read > read + 32)
        assert handle.is_valid
