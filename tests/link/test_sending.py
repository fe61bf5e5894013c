"""Sending many messages by a link that is lost half-way."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from portkit import BecameInvalidError, MachPort
from portkit.link.rights import Import
from portkit.link.sending import Sending
from portkit.message import Envelope
from portkit_transports.message.channel import UnixChannel
from tests.link.helpers import Pair
from tests.support import PATIENCE


def test_the_error_counts_what_was_accepted_before_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    post_run, write = Sending._post_run, UnixChannel.write

    def fail(channel: UnixChannel, data: bytes, descriptors: Sequence[int]) -> int:
        if channel is pair.left.channel:
            raise OSError(errno.EPIPE, "lost")
        return write(channel, data, descriptors)

    def lose(sending: Sending, right: Import, envelopes: Sequence[Envelope], start: int) -> int:
        if start == 2:
            monkeypatch.setattr(UnixChannel, "write", fail)
        return post_run(sending, right, envelopes, start)

    with MachPort() as port, Pair() as pair:
        handle = pair.open(port)
        monkeypatch.setattr(Sending, "_post_run", lose)
        with pytest.raises(BecameInvalidError) as caught:
            handle.send_many([b"1", bytes(5000), b"3", b"4"], timeout=PATIENCE)
        assert caught.value.accepted == 2
