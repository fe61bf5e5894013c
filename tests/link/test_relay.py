"""Messages that are sent on: those that wait here for room when what they are for ends."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from portkit import BecameInvalidError, InvalidPortError, MachPort
from portkit.link import flow
from portkit.link.node import Settings
from portkit.link.remote_port import RemotePort
from portkit.link.rights import Import
from tests.link.helpers import Pair
from tests.ports.helpers import Background
from tests.support import PATIENCE, eventually


@pytest.fixture
def near() -> Iterator[Pair]:
    """From who asks to who relays."""
    with Pair() as pair:
        yield pair


@pytest.fixture
def far() -> Iterator[Pair]:
    """From who relays to who is asked."""
    with Pair() as pair:
        yield pair


@pytest.mark.parametrize("how", ["port", "process"])
def test_requests_that_wait_for_room_are_told_of_the_end(near: Pair, far: Pair, how: str) -> None:
    """Not only those that had gone on: nobody waits for a time-out."""
    with MachPort(queue_limit=2) as slow:
        relayed = near.across(far.open(slow))
        asking = [Background(partial(relayed.request, b"?", reply_timeout=None)) for _ in range(6)]
        (relay,) = [export._relay for export in near.left.table.exports.values() if export._relay]
        assert eventually(lambda: slow.pending == 2 and len(relay._queue) == 4)
        if how == "port":
            slow.invalidate()
        else:
            far.right_node.close()
        for asker in asking:
            with pytest.raises(BecameInvalidError):
                asker.result()


def test_an_end_found_out_while_a_run_is_sent_on(
    near: Pair, far: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the right that the run came by, but not the link."""
    with MachPort() as port, MachPort() as other:
        target = far.open(port)
        relayed = near.across(target)
        (own,) = [export.port for export in near.left.table.exports.values() if export._relay]
        assert own is not None
        came: list[object] = []

        def post(handle: RemotePort, *args: Any) -> None:
            came.append(args)
            own.invalidate()
            raise InvalidPortError("it ended just now")

        with monkeypatch.context() as patch:
            patch.setattr(RemotePort, "_post", post)
            relayed.send_many([b"1", b"2", b"3"])
            assert eventually(lambda: not relayed.is_valid)
            assert eventually(lambda: len(came) == 3)
        near.open(other).send(b"the link lives")
        assert other.receive(PATIENCE).data == b"the link lives"
        assert not near.left.is_closed
        assert not near.right.is_closed


class TestHandles:
    """What was sent is a right: a handle to it may end, and the right goes on."""

    @pytest.mark.parametrize("how", ["invalidated", "dropped"])
    def test_that_were_sent_may_go(self, near: Pair, far: Pair, how: str) -> None:
        with MachPort() as port:
            gone: list[object] = []
            port.add_no_senders_handler(gone.append)
            sent = far.across(port)
            relayed = near.across(sent)
            if how == "invalidated":
                sent.invalidate()
            del sent
            gc.collect()
            relayed.send(b"1", timeout=PATIENCE)
            assert port.receive(PATIENCE).data == b"1"
            assert relayed.is_valid
            assert not gone

    def test_that_came_home_may_go(self, near: Pair, far: Pair) -> None:
        """Each is the receiver's own."""
        with MachPort() as port, MachPort() as here:
            sent = far.open(port)
            relayed = near.across(sent)
            # Back to the side that relays.
            there = near.across(here)
            there.send([relayed, relayed], timeout=PATIENCE)
            one, other = here.receive(PATIENCE).ports
            assert one == other == sent
            one.invalidate()
            assert other.is_valid
            for handle in (other, sent, relayed):
                handle.send(b"goes on", timeout=PATIENCE)
                assert port.receive(PATIENCE).data == b"goes on"


class TestRoom:
    """What waits in the middle costs nothing, and goes on when there is room."""

    def test_for_a_message_larger_than_what_is_left(self, near: Pair, far: Pair) -> None:
        with MachPort() as slow:
            relayed = near.across(far.open(slow))
            most = flow.WINDOW // 60_000
            sender = Background(lambda: relayed.send_many([bytes(60_000)] * (most + 3)))
            (relay,) = [e._relay for e in near.left.table.exports.values() if e._relay]
            assert eventually(lambda: slow.pending == most and relay._queue)
            sender.result()
            tried = relay._port
            right = tried._reach()
            assert isinstance(right, Import)
            assert eventually(lambda: right.onward)  # it will be called, and does not ask again
            assert not relay._lock.locked()
            for _ in range(most + 3):
                slow.receive(PATIENCE)

    def test_in_the_outbox(self, near: Pair) -> None:
        with (
            Pair(Settings(outbox_limit=1000, out_of_line=1 << 30)) as far,
            MachPort() as slow,
            MachPort() as other,
        ):
            target, filler = far.open(slow), far.open(other)
            relayed = near.across(target)
            with far.right.incoming._busy:  # nobody reads there
                filler.send(bytes(900_000))
                relayed.send(b"1")
                relayed.send(b"2")
                assert eventually(lambda: far.left.sending.onward)
            assert [slow.receive(PATIENCE).data for _ in range(2)] == [b"1", b"2"]

    def test_in_the_outbox_of_a_link_that_ends(self, near: Pair) -> None:
        with (
            Pair(Settings(outbox_limit=1000, out_of_line=1 << 30)) as far,
            MachPort() as slow,
            MachPort() as other,
        ):
            target, filler = far.open(slow), far.open(other)
            relayed = near.across(target)
            with far.right.incoming._busy:
                filler.send(bytes(900_000))
                asker = Background(partial(relayed.request, b"?", reply_timeout=None))
                assert eventually(lambda: far.left.sending.onward)
                far.left.close()
                with pytest.raises(BecameInvalidError):
                    asker.result()
