"""The outbox: every frame whole and in order, whatever the channel takes at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.link import frames
from portkit.link.channel import Channel
from portkit.link.decoder import PART_HEAD, Limits
from portkit.link.frames import HEADER, HEADER_SIZE, Entry, Kind, Part
from portkit.link.outbox import PART_SIZE, Outbox
from portkit.message import Sender
from tests.link.wire import feed, new_decoder

LARGE = PART_SIZE * 2 + 1000
MANY = 1 << 30


class Taker(Channel):
    """A channel that takes as much at a time as it is told, 0 for nothing now.

    Attributes:
        data: what it took.
        descriptors: for each that came, where in the data, and which file it is.
        calls: how often it was written to.
        on_write: called in each write, as a signal handler would be.
    """

    def __init__(self, sizes: Iterable[int] = ()) -> None:
        self.data = bytearray()
        self.descriptors: list[tuple[int, int]] = []
        self.calls = 0
        self.on_write: Callable[[], None] = lambda: None
        self._sizes: Iterator[int] = chain(sizes, repeat(MANY))

    @property
    def sender(self) -> Sender | None:
        """Nobody."""
        return None

    @property
    def carries_descriptors(self) -> bool:
        """It does."""
        return True

    @property
    def has_unread(self) -> bool:
        """Nothing is read."""
        return False

    def acknowledged(self) -> int | None:
        """There is no network."""
        return None

    def finish(self) -> bool:
        """There is no peer."""
        return False

    def fileno(self) -> int:
        """There is none."""
        raise NotImplementedError

    def read(self, buffer: memoryview) -> tuple[int, Sequence[int]]:
        """Nothing is read."""
        raise NotImplementedError

    def write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        """Take some of it."""
        assert len(data), "there is no point in writing nothing"
        self.calls += 1
        self.on_write()
        size = min(next(self._sizes), len(data))
        if not size:
            raise BlockingIOError
        for fd in descriptors:
            self.descriptors.append((len(self.data), os.fstat(fd).st_ino))
        self.data += data[:size]
        self.on_write()
        return size

    def shutdown(self) -> None:
        """Nothing is to be ended."""

    def arrived(self, parts: int = 16) -> list[tuple[object, ...]]:
        """What the data is, all of it whole."""
        decoder, sink = new_decoder(Limits(parts=parts))
        feed(decoder, bytes(self.data))
        assert decoder.is_between_frames
        return sink.events

    def msgids(self, parts: int = 16) -> list[int]:
        """The numbers of the messages that arrived, in their order."""
        return [msgid_of(event) for event in self.arrived(parts)]


def msgid_of(event: tuple[object, ...]) -> int:
    msgid = event[1] if isinstance(event[-1], bytes) and len(event) == 5 else event[2]
    assert isinstance(msgid, int)
    return msgid


def message(msgid: int, size: int = 10, target: int = 1) -> bytes:
    return frames.simple_message(Kind.MESSAGE, target, msgid, 0, bytes(size))


def with_port(msgid: int, size: int = 10, target: int = 1, part: Part = Part.MINE) -> bytes:
    table = [Entry(Part.DATA, 0, 0, size), Entry(part, 0, 5, 0)]
    return frames.message(Kind.MESSAGE, target, msgid, 0, table, [bytes(size)])


def flush_all(outbox: Outbox) -> None:
    """Flush until nothing is left, as the service thread does while it can be written to."""
    for _ in range(100_000):
        if outbox.flush():
            assert outbox.size == 0
            return
    pytest.fail("the outbox did not become empty")


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Four descriptors of two pipes."""
    fds = [*os.pipe(), *os.pipe()]
    yield fds
    for fd in fds:
        os.close(fd)


# Whole frames, in order.


@pytest.mark.parametrize("step", [1, 2, 7, 8, 27, 28, 29, 1000])
@pytest.mark.parametrize("blocked", [False, True])
def test_short_writes_keep_the_stream_in_step(step: int, blocked: bool) -> None:
    sizes = chain.from_iterable((step, 0) for _ in count()) if blocked else repeat(step)
    channel = Taker(sizes)
    outbox = Outbox(channel)
    for msgid in range(20):
        outbox.write(message(msgid, 10 * msgid))
    flush_all(outbox)
    assert channel.msgids() == [*range(20)]


def test_a_write_that_is_cut_anywhere_goes_on_there() -> None:
    first, second = message(1, 40), message(2, 40)
    for cut in range(len(first + second)):
        channel = Taker([cut, 0] if cut else [0])
        outbox = Outbox(channel)
        outbox.write(first)
        outbox.write(second)
        flush_all(outbox)
        assert channel.msgids() == [1, 2]


def test_large_messages_that_are_cut_anywhere_go_on_there() -> None:
    frame = message(1, PART_SIZE + 100)
    for cut in (1, 7, 8, 15, 16, 17, PART_SIZE - 1, PART_SIZE, PART_SIZE + 16, PART_SIZE + 17):
        channel = Taker([cut, 0])
        outbox = Outbox(channel)
        outbox.write(frame, 1)
        outbox.write(message(2), 2)
        flush_all(outbox)
        assert sorted(channel.msgids()) == [1, 2]


def test_the_size_is_what_waits() -> None:
    channel = Taker([10])
    outbox = Outbox(channel)
    frame = message(1)
    outbox.write(frame)
    assert outbox.size == len(frame) - 10
    outbox.add(frame)
    assert outbox.size == 2 * len(frame) - 10
    assert outbox.flush()
    assert outbox.size == 0


def test_small_frames_that_wait_go_together() -> None:
    channel = Taker()
    outbox = Outbox(channel)
    for msgid in range(100):
        outbox.add(message(msgid))
    assert outbox.flush()
    assert channel.calls == 1
    assert channel.msgids() == [*range(100)]


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_runs_stay_whole_and_in_order(size: int) -> None:
    channel = Taker([PART_SIZE + 5, 0, 100, 0])
    outbox = Outbox(channel)
    outbox.write(message(0, LARGE, target=3), 3)
    outbox.add_run([message(msgid, size, target=3) for msgid in range(1, 200)], 3)
    outbox.write(message(200, target=3), 3)
    flush_all(outbox)
    assert channel.msgids() == [*range(201)]


# Turns.


def test_small_frames_come_between_the_parts_of_a_large_one() -> None:
    channel = Taker([PART_SIZE + PART_HEAD, 0, 0, 0])
    outbox = Outbox(channel)
    outbox.write(message(1, LARGE), 1)
    outbox.write(message(2, target=2), 2)
    outbox.write(frames.ping())
    flush_all(outbox)
    assert [event[0] == 5 and msgid_of(event) for event in channel.arrived()] == [2, False, 1]


def test_large_messages_take_turns() -> None:
    channel = Taker()
    outbox = Outbox(channel)
    outbox.most_parts = 2
    outbox.add(message(1, PART_SIZE * 10), 1)
    outbox.add(message(2, PART_SIZE), 2)
    assert outbox.flush()
    assert channel.msgids() == [2, 1]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_are_on_their_way_in_parts_than_the_peer_takes(most: int) -> None:
    channel = Taker()
    outbox = Outbox(channel)
    outbox.most_parts = most
    for msgid in range(6):
        outbox.add(message(msgid, LARGE, target=0))  # answers, say
    assert outbox.flush()
    assert channel.msgids(parts=most) == [*range(6)]


def test_a_flood_of_small_frames_does_not_hold_up_a_large_one() -> None:
    channel = Taker(chain.from_iterable((PART_SIZE, 0) for _ in count()))
    outbox = Outbox(channel)
    outbox.write(message(0, LARGE), 1)
    numbers = count(1)
    for _ in range(40):
        while outbox.size < 8 * PART_SIZE:
            outbox.add(message(next(numbers), 4000, target=2), 2)
        outbox.flush()
    flush_all(outbox)
    found = channel.msgids()
    assert found.index(0) < 0.75 * len(found)
    assert sorted(found) == [*range(next(numbers))]


def test_frames_to_one_right_stay_behind_its_large_message() -> None:
    channel = Taker([0] * 7)
    outbox = Outbox(channel)
    outbox.most_parts = 4
    for msgid, size in enumerate([10, LARGE, 10, LARGE, PART_SIZE, 10]):
        outbox.write(message(msgid, size), 1)
    outbox.write(message(9, target=2), 2)
    flush_all(outbox)
    found = channel.msgids()
    assert found.index(9) < 2
    found.remove(9)
    assert found == [*range(6)]


@pytest.mark.parametrize("part", [Part.MINE, Part.YOURS])
def test_nothing_overtakes_a_message_that_names_ports(part: Part) -> None:
    # RELEASE or DEAD of a port, or another message that names it, must not come before it.
    channel = Taker([0] * 7)
    outbox = Outbox(channel)
    outbox.most_parts = 4
    outbox.write(message(0, LARGE, target=7), 7)
    outbox.write(with_port(1, LARGE, part=part), 1)
    for msgid, target in ((2, 2), (3, 1), (4, 7)):
        outbox.write(message(msgid, target=target), target)
    outbox.write(with_port(5, LARGE, target=2, part=part), 2)
    outbox.write(message(6, target=3), 3)
    flush_all(outbox)
    found = channel.msgids()
    assert set(found[:2]) == {0, 1}
    assert found[2:] == [2, 3, 4, 5, 6]


def test_a_small_message_that_names_ports_waits_its_turn_and_others_for_it() -> None:
    channel = Taker([0] * 3)
    outbox = Outbox(channel)
    outbox.write(message(0, LARGE), 1)
    outbox.write(with_port(1), 1)  # behind the large one
    outbox.write(with_port(2, target=2), 2)
    flush_all(outbox)
    assert channel.msgids() == [0, 1, 2]


# Descriptors.


def test_what_goes_in_at_once_is_not_duplicated(
    pipes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Taker()
    outbox = Outbox(channel)
    monkeypatch.setattr(os, "dup", None)
    outbox.write(message(1), 1, pipes)
    assert channel.descriptors == [(0, os.fstat(fd).st_ino) for fd in pipes]


@pytest.mark.parametrize("first", [[], [0], [1, 0], [5, 0, 0, 1, 0]])
def test_descriptors_go_with_the_first_byte_of_their_frame(
    pipes: list[int], first: list[int]
) -> None:
    channel = Taker([*first, 0, 3, 0, 1])
    outbox = Outbox(channel)
    plain = message(1)
    outbox.write(plain)
    outbox.write(message(2), 2, pipes[:2])
    outbox.write(message(3), 2, pipes[2:])
    flush_all(outbox)
    places = [len(plain)] * 2 + [2 * len(plain)] * 2
    inodes = [os.fstat(fd).st_ino for fd in pipes]
    assert channel.descriptors == list(zip(places, inodes, strict=True))
    assert channel.msgids() == [1, 2, 3]


def test_a_large_frame_with_descriptors_is_not_split(pipes: list[int]) -> None:
    channel = Taker([0, 100])
    outbox = Outbox(channel)
    outbox.write(message(1, LARGE), 1, pipes[:1])
    flush_all(outbox)
    assert HEADER.unpack_from(channel.data)[1] == Kind.MESSAGE
    assert [place for place, _ in channel.descriptors] == [0]


def test_descriptors_wait_behind_a_large_message(pipes: list[int]) -> None:
    channel = Taker([100, 0])
    outbox = Outbox(channel)
    outbox.write(message(1, LARGE), 1)
    outbox.write(message(2), 1, pipes[:1])
    outbox.write(with_port(3), 1)
    outbox.write(message(4), 4, pipes[1:2])
    flush_all(outbox)
    assert channel.msgids() == [1, 2, 3, 4]
    assert [inode for _, inode in channel.descriptors] == [os.fstat(fd).st_ino for fd in pipes[:2]]


def test_closing_closes_the_duplicates_that_wait_anywhere(pipes: list[int]) -> None:
    outbox = Outbox(Taker([100, 0]))
    outbox.write(message(1, LARGE), 1)
    outbox.write(message(2), 1, pipes)  # behind it
    outbox.write(with_port(3), 1, pipes)
    outbox.write(message(4), 2, pipes)  # after that
    outbox.add(message(5), 3, pipes)  # not given its place yet
    outbox.close()
    assert outbox.size == 0
    blocked = Outbox(Taker([0]))
    blocked.write(message(6), 1, pipes)
    blocked.close()
    # What was duplicated and not closed fails the test: see conftest.py.


@pytest.mark.parametrize("method", [Outbox.write, Outbox.add])
def test_when_no_more_descriptors_can_be_opened_none_is_lost(
    pipes: list[int],
    method: Callable[[Outbox, bytes, int, Sequence[int]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outbox = Outbox(Taker([0]))
    left = iter([True, True, False])
    real = os.dup

    def dup(fd: int) -> int:
        if not next(left):
            raise OSError(24, "Too many open files")
        return real(fd)

    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(OSError, match="Too many"):
        method(outbox, message(1), 1, pipes)
    assert outbox.size == 0
    assert outbox.flush()
    outbox.close()


def test_a_lost_connection_is_told_and_what_waits_is_let_go(pipes: list[int]) -> None:
    channel = Taker([0])
    outbox = Outbox(channel)
    outbox.write(message(1), 1, pipes)

    def lose() -> None:
        raise ConnectionResetError

    channel.on_write = lose
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            outbox.flush()
    with pytest.raises(ConnectionResetError):
        outbox.write(message(2), 1, pipes)
    outbox.close()


# Signal handlers that send while something is being written.


def interrupting(outbox: Outbox, channel: Taker, frames_to_send: list[tuple[bytes, int]]) -> None:
    """Have a handler send one of these each time that the channel is written to, and after."""

    def handler() -> None:
        if frames_to_send:
            frame, target = frames_to_send.pop(0)
            outbox.write(frame, target)

    channel.on_write = handler


@pytest.mark.parametrize("sizes", [[], [0], [5], [5, 0], [1, 1, 1, 0, 1]])
@pytest.mark.parametrize("large", [False, True])
def test_a_handler_that_sends_does_not_get_in_between(sizes: list[int], large: bool) -> None:
    channel = Taker(sizes)
    outbox = Outbox(channel)
    interrupting(
        outbox, channel, [(message(n, LARGE if large and n == 2 else 10), 1) for n in (2, 3, 4)]
    )
    outbox.write(message(1), 1)
    flush_all(outbox)
    assert channel.msgids() == [1, 2, 3, 4]


def test_a_handler_that_sends_while_a_large_message_is_written() -> None:
    channel = Taker(chain.from_iterable((30_000, 0) for _ in count()))
    outbox = Outbox(channel)
    outbox.most_parts = 2
    frames_to_send = [(message(n, LARGE if n % 3 == 0 else 10), n % 2 + 1) for n in range(2, 12)]
    interrupting(outbox, channel, frames_to_send)
    outbox.write(message(1, LARGE, target=2), 2)
    flush_all(outbox)
    found = channel.msgids(parts=2)
    assert sorted(found) == [*range(1, 12)]
    assert [n for n in found if n % 2 == 0] == [2, 4, 6, 8, 10]
    assert [n for n in found if n % 2 == 1] == [1, 3, 5, 7, 9, 11]


# Anything.

plans = st.lists(
    st.tuples(
        st.sampled_from(["simple", "port", "run", "control", "flush"]),
        st.sampled_from([0, 10, 5000, PART_SIZE, PART_SIZE + 1, 3 * PART_SIZE]),
        st.integers(0, 3),  # the target
        st.integers(0, 2),  # descriptors
    ),
    max_size=25,
)
capacities = st.lists(
    st.sampled_from([0, 0, 1, 3, HEADER_SIZE, 100, 5000, PART_SIZE, 200_000]), max_size=60
)


@given(plans, capacities, st.integers(1, 3), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_arrives_whole_and_in_order(
    plan: list[tuple[str, int, int, int]], sizes: list[int], most: int, interrupt: bool
) -> None:
    channel = Taker(sizes)
    outbox = Outbox(channel)
    outbox.most_parts = most
    sent: list[tuple[int, int, bool]] = []
    with open(os.devnull, "rb") as null, open("/dev/zero", "rb") as zero:  # noqa: PTH123
        given = [null.fileno(), zero.fileno()]
        inodes: list[int] = []

        def send(what: str, size: int, target: int, descriptors: int) -> None:
            msgid = len(sent)
            if what == "control":
                sent.append((msgid, 0, False))
                outbox.write(message(msgid, 0, target=9))
            elif what == "run" and target:
                run = [message(msgid + n, min(size, 4096), target) for n in range(3)]
                sent.extend((msgid + n, target, False) for n in range(3))
                outbox.add_run(run, target)
                outbox.flush()
            elif what == "flush":
                outbox.flush()
            else:
                port = what == "port"
                make = with_port if port else message
                inodes.extend(os.fstat(fd).st_ino for fd in given[:descriptors])
                sent.append((msgid, target, port))
                outbox.write(make(msgid, size, max(target, 1)), target, given[:descriptors])

        if interrupt:
            extra = [("simple", 10, 1, 0), ("port", 10, 2, 0), ("control", 0, 0, 0)]
            channel.on_write = lambda: send(*extra.pop()) if extra else None
        for step in plan:
            send(*step)
        flush_all(outbox)
        channel.on_write = lambda: None
    found = channel.msgids(parts=most)
    assert sorted(found) == [msgid for msgid, _, _ in sent]
    for target in range(1, 4):
        order = [msgid for msgid, to, _ in sent if to == target]
        assert [msgid for msgid in found if msgid in set(order)] == order
    places = {msgid: place for place, msgid in enumerate(found)}
    for msgid, _, port in sent:
        if port:  # what is sent after it comes after it
            assert all(places[msgid] < places[later] for later in range(msgid + 1, len(sent)))
    assert sorted(inode for _, inode in channel.descriptors) == sorted(inodes)
