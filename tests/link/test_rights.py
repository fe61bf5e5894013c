"""Rights on a link: what a port is on the other side, and when it ends."""

from __future__ import annotations

import gc

import pytest

from portkit import BecameInvalidError, InvalidPortError, MachPort, Port
from portkit.link import frames
from portkit.link.frames import Entry, Kind, Part
from tests.link.helpers import Pair
from tests.link.raw import DOOR, RawPeer, Victim
from tests.support import PATIENCE, eventually

MIDDLE = bytes(200_000)
"""In the frame, in several parts."""


def test_handles_to_one_port_are_equal() -> None:
    with Pair() as pair, MachPort() as port, MachPort() as other:
        first, second = pair.across(port), pair.across(port)
        assert first == second
        assert hash(first) == hash(second)
        assert first is not second
        assert first != pair.across(other)


def test_a_handle_that_is_invalidated_ends_alone() -> None:
    with Pair() as pair, MachPort() as port:
        first, second = pair.across(port), pair.across(port)
        first.invalidate()
        with pytest.raises(InvalidPortError):
            first.send(b"x")
        second.send(b"y")
        assert port.receive(PATIENCE).data == b"y"


def test_a_port_that_comes_home_is_itself() -> None:
    with Pair() as pair, MachPort() as port, MachPort() as left, MachPort() as right:
        back = pair.across(left)
        pair.open(right).send(port, reply_port=port)
        message = right.receive(PATIENCE)
        back.send([*message.ports], reply_port=message.send_port)
        home = left.receive(PATIENCE)
        assert home.ports == (port,)
        assert home.ports[0] is port
        assert home.send_port is port


def test_the_end_of_a_port_reaches_its_handles() -> None:
    with Pair() as pair:
        port = MachPort()
        handle = pair.across(port)
        port.invalidate()
        assert eventually(lambda: not handle.is_valid)
        with pytest.raises(InvalidPortError, match="its owner invalidated it"):
            handle.send(b"x")


def test_the_end_of_a_port_that_everybody_dropped() -> None:
    with Pair() as pair:
        port = MachPort()
        handle = pair.across(port)
        del port
        gc.collect()
        assert eventually(lambda: not handle.is_valid)


def test_a_port_that_had_ended_arrives_as_one_that_has() -> None:
    with Pair() as pair:
        port = MachPort()
        port.invalidate()
        assert not pair.across(port).is_valid


def test_a_port_that_ends_on_its_way_home_arrives_ended() -> None:
    with Pair() as pair, MachPort() as left:
        port = MachPort()
        handle, back = pair.across(port), pair.across(left)
        with pair.right.lock:  # nothing is read or written meanwhile on that side
            back.send([handle])
            port.invalidate()
        (found,) = left.receive(PATIENCE).ports
        assert not found.is_valid


def test_a_request_that_is_under_way_when_the_link_ends() -> None:
    with Pair() as pair, MachPort() as port:
        handle = pair.open(port)

        def cut(message: object) -> None:
            pair.right.close()

        from tests.support import LoopThread

        with LoopThread() as loop:
            port.delegate = cut
            loop.call(loop.loop.add_port, port)
            with pytest.raises(BecameInvalidError):
                handle.request(b"?", reply_timeout=PATIENCE)
            loop.call(loop.loop.remove_port, port)


# Order, where large messages go in parts, which small frames overtake.


def test_the_last_handle_goes_behind_its_last_message() -> None:
    with Pair() as pair, MachPort() as port:
        for _ in range(20):
            handle = pair.open(port)
            handle.send([MIDDLE, b"end"], timeout=PATIENCE)
            del handle
            gc.collect()
            assert port.receive(PATIENCE).components[1] == b"end"


def test_a_port_sent_home_in_a_large_message_is_home_when_its_handle_goes() -> None:
    with Pair() as pair, MachPort() as port, MachPort() as left:
        back = pair.across(left)
        for _ in range(20):
            handle = pair.across(port)
            back.send([handle, MIDDLE], timeout=PATIENCE)
            del handle
            gc.collect()
            (home,) = left.receive(PATIENCE).ports
            assert home is port


def test_a_port_that_ends_behind_the_large_message_it_went_in() -> None:
    with Pair() as pair, MachPort() as right:
        door = pair.open(right)
        for _ in range(20):
            port = MachPort()
            door.send([port, MIDDLE], timeout=PATIENCE)
            port.invalidate()
            (handle,) = right.receive(PATIENCE).ports
            assert eventually(lambda h=handle: not h.is_valid)  # type: ignore[misc]


# Releases that cross copies on their way.


def test_a_release_that_crosses_a_copy() -> None:
    """The peer let go of the first while a second was on its way: that one begins anew."""
    with Victim() as victim, RawPeer(victim.right_node) as peer, MachPort(queue_limit=4) as port:
        peer.greet().open_door()
        peer.send(frames.message(Kind.MESSAGE, DOOR, 0, 0, [Entry(Part.MINE, 8, 1, 1 << 20)], []))
        (back,) = victim.door.receive(PATIENCE).ports
        back.send([port])
        while (came := peer.next()).kind != Kind.MESSAGE:
            pass
        number = int.from_bytes(came.body[28:36], "little")
        back.send([port])
        message = frames.simple_message(Kind.MESSAGE, number, 0, 0, b"x")
        peer.send(message * 2 + frames.release(number, 1))
        while (came := peer.next()).kind != Kind.CREDIT:
            pass
        assert int.from_bytes(came.body[8:12], "little") == 2  # two of four lie there unread
        peer.send(message * 2)
        for _ in range(4):
            assert port.receive(PATIENCE).data == b"x"
        peer.send(frames.release(number, 1) + frames.ping())
        while peer.next().kind != Kind.PONG:
            pass
        assert not port._senders
        victim.check_unharmed()


def test_released_and_sent_again_at_once() -> None:
    """Many times over, so that some releases cross copies. Nothing is lost, nothing is left."""
    with Pair() as pair, MachPort() as port, MachPort() as right:
        door = pair.open(right)
        for number in range(300):
            door.send([port])
            found: Port = right.receive(PATIENCE).ports[0]
            found.send(str(number).encode())
            del found
            assert port.receive(PATIENCE).data == str(number).encode()
        gc.collect()
        assert eventually(lambda: not port._senders)
        assert eventually(lambda: not pair.left.table.exports)
