"""What a link sends while a large message is on its way in parts does not come too early."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from portkit import MachPort, Port
from portkit.link.decoder import Limits
from portkit.link.node import Settings
from tests.link.helpers import Pair
from tests.support import PATIENCE

INLINE = Settings(out_of_line=1 << 30)
SIZE = 600_000
"""More than a socket takes at once, less than what may wait in the outbox."""


@contextmanager
def not_reading(pair: Pair) -> Iterator[None]:
    """Have the right side read nothing, so that what is sent to it piles up on the left."""
    with pair.right.incoming._busy:
        yield
        assert pair.left.outbox.size, "everything was taken at once"


def test_a_port_sent_in_a_large_message_has_room_when_a_later_message_has_it_too() -> None:
    with Pair(INLINE) as pair, MachPort() as first, MachPort() as second, MachPort() as port:
        to_first, to_second = pair.open(first), pair.open(second)
        with not_reading(pair):
            to_first.send([bytes(SIZE), port])
            to_second.send([b"", port])
        (found,) = second.receive(PATIENCE).ports
        found.send(b"hello", timeout=PATIENCE)  # there is room: the window came first
        assert port.receive(PATIENCE).data == b"hello"
        (same,) = first.receive(PATIENCE).ports
        assert same == found


def test_a_port_sent_in_a_large_message_that_ends_meanwhile_arrives_ended() -> None:
    with Pair(INLINE) as pair, MachPort() as door, MachPort() as other:
        to_door, to_other = pair.open(door), pair.open(other)
        with not_reading(pair), MachPort() as port:
            to_door.send([bytes(SIZE), port])
            port.invalidate()
        to_other.send()
        (found,) = door.receive(PATIENCE).ports
        other.receive(PATIENCE)  # DEAD came before this, and after the large message
        assert not found.is_valid


def test_a_port_sent_home_in_a_large_message_is_found_there_though_it_is_released() -> None:
    with Pair(INLINE) as pair, MachPort() as door, MachPort() as home:
        to_door = pair.open(door)
        held: list[Port] = []
        with MachPort() as left_door:
            (reverse,) = (pair.across(left_door),)
            reverse.send([b"", home])  # the right side gives its port away
            held += left_door.receive(PATIENCE).ports
        with not_reading(pair):
            to_door.send([bytes(SIZE), held[0]])
            held.clear()
        assert door.receive(PATIENCE).ports == (home,)


def test_a_large_message_arrives_though_its_right_is_released_at_once() -> None:
    with Pair(INLINE) as pair, MachPort() as door:
        handles = [pair.open(door)]
        with not_reading(pair):
            handles[0].send(bytes(SIZE))
            handles.clear()
        data = door.receive(PATIENCE).data
        assert data is not None
        assert len(data) == SIZE


def test_many_large_answers_at_once_keep_to_what_the_peer_takes_in_parts() -> None:
    few = Settings(limits=Limits(parts=1), out_of_line=1 << 30)
    with Pair(few, INLINE) as pair, MachPort() as door, MachPort() as back:
        handle = pair.open(door)
        for number in range(8):
            handle.send(b"ask", msgid=number, reply_port=back)
        requests = [door.receive(PATIENCE) for _ in range(8)]
        with pair.left.incoming._busy:
            for request in requests:
                request.reply(bytes(100_000), msgid=request.msgid)
        assert sorted(back.receive(PATIENCE).msgid for _ in range(8)) == [*range(8)]
        assert not pair.left.is_closed


def test_the_longest_message_that_the_peer_accepts_arrives_whatever_its_table() -> None:
    most = Settings(limits=Limits(message=1 << 16, components=3), out_of_line=1 << 30)
    with Pair(most) as pair, MachPort() as door:
        handle = pair.open(door)
        half = bytes(1 << 15)
        handle.send([half, half, door], reply_port=door)
        assert door.receive(PATIENCE).components[:2] == (half, half)
