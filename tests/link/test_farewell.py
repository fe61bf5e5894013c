"""Waiting at the process's end for a peer that does not end."""

from __future__ import annotations

from portkit.link.patience import Patience
from tests.link.helpers import Pair


def test_a_peer_that_does_not_end_is_not_awaited_for_longer() -> None:
    with Pair() as pair:
        pair.left.await_end(Patience(0.05, 0.05))
        assert not pair.left.is_closed
