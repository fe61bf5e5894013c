"""The decoder: a frame is passed on whole, or the peer broke the protocol; however it is cut."""

from __future__ import annotations

from itertools import repeat

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portkit.errors import ProtocolError
from portkit.link import frames
from portkit.link.decoder import PART_HEAD, Limits
from portkit.link.frames import (
    ENTRY_SIZE,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    MAX_HEADERS,
    MAX_RECORD,
    MESSAGE,
    MESSAGE_SIZE,
    REPLY_PORT,
    REQUEST,
    SIMPLE,
    Entry,
    Frame,
    Kind,
    Part,
)
from tests.link.wire import SMALL, encode, feed, in_parts, new_decoder, outcome, part, streams

sizes = st.lists(st.integers(1, 60), max_size=60)
scratch_sizes = st.sampled_from([16, 17, 64, 300, 1 << 17])


def simple(size: int, target: int = 1) -> bytes:
    return frames.simple_message(Kind.MESSAGE, target, 7, 0, bytes(size))


def message(count: int, flags: int, table: list[Entry], body: bytes, once: int = 0) -> bytes:
    """A message as it is not made, with whatever is wrong about it."""
    length = MESSAGE_SIZE + ENTRY_SIZE * len(table) + len(body)
    head = MESSAGE.pack(length, Kind.MESSAGE, flags, count, 7, 1, once)
    return head + b"".join(frames.ENTRY.pack(*entry) for entry in table) + body


# Cuts.


@given(streams(), sizes, scratch_sizes)
@settings(max_examples=300)
def test_any_cut_gives_the_same(stream: list[bytes], cuts: list[int], scratch_size: int) -> None:
    data = b"".join(stream)
    whole = outcome(data)
    assert whole[1:] == ("", True)
    assert outcome(data, cuts, scratch_size=scratch_size) == whole
    assert outcome(data, repeat(1), scratch_size=scratch_size) == whole


@given(streams(), st.data())
def test_a_frame_that_is_cut_off_is_not_passed_on(stream: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(stream)
    length = data.draw(st.integers(0, len(whole)))
    events, error, may_end = outcome(whole[:length])
    assert not error
    assert events == outcome(whole)[0][: len(events)]
    if may_end:
        assert sum(len(encode(event)) for event in events) <= length


@pytest.mark.parametrize("scratch_size", [16, 1000, 1 << 17])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 971, 972, 973, 10_000])
def test_a_message_of_any_size_is_whole(size: int, scratch_size: int) -> None:
    data = bytes(range(256)) * 40
    stream = b"".join(
        [
            frames.ping(),
            frames.simple_message(Kind.MESSAGE, 1, 7, 0, data[:size]),
            frames.simple_message(Kind.REPLY, 2, 8, 0, data[:size]),
            frames.pong(),
        ]
    )
    for step in (1, 7, 16, 4096, len(stream)):
        events, error, may_end = outcome(stream, repeat(step), scratch_size=scratch_size)
        assert (error, may_end, len(events)) == ("", True, 4)
        assert events[1] == (Kind.MESSAGE, 7, 1, 0, data[:size])
        assert events[2] == (Kind.REPLY, 8, 2, 0, data[:size])


def test_the_stream_may_end_only_between_frames() -> None:
    stream = frames.ping() + simple(5000)
    for end in range(len(stream) + 1):
        assert outcome(stream[:end])[2] == (end in {0, HEADER_SIZE, len(stream)})
    assert not outcome(in_parts(simple(5000), 1, 100)[0])[2]


# Lengths.


@pytest.mark.parametrize("length", range(HEADER_SIZE))
@pytest.mark.parametrize("kind", [0, Kind.MESSAGE, Kind.PART, Kind.PING])
def test_a_frame_shorter_than_its_header_is_refused(length: int, kind: int) -> None:
    header = HEADER.pack(length, kind, 0, 0)
    assert outcome(header)[1] == f"a frame has at least 8 bytes, not {length}"


@pytest.mark.parametrize("length", [HEADER_SIZE, MESSAGE_SIZE - 1])
def test_a_message_shorter_than_its_fields_is_refused(length: int) -> None:
    data = HEADER.pack(length, Kind.MESSAGE, SIMPLE, 1) + bytes(length - HEADER_SIZE)
    assert outcome(data)[1] == f"a message of {length} bytes is cut off"


@pytest.mark.parametrize("kind", [*range(20), 255])
def test_a_length_over_the_limit_is_refused_by_the_header_alone(kind: int) -> None:
    assert "is over the limit of" in outcome(HEADER.pack(2**32 - 1, kind, 0, 65535))[1]


def test_a_length_that_lies_costs_no_memory() -> None:
    decoder, _ = new_decoder(Limits())
    header = HEADER.pack(60 << 20, Kind.MESSAGE, SIMPLE, 1)
    feed(decoder, header)
    scratch = memoryview(bytearray(1 << 17))
    came = 0
    while came < 1 << 20:
        room = len(decoder.buffer(scratch))
        assert room <= 2 * max(came, len(scratch))
        decoder.received(scratch, min(room, 50_000))
        came += min(room, 50_000)


@pytest.mark.parametrize("step", [1000, 1 << 20])
@pytest.mark.parametrize("count", [0, 1, 8])
def test_data_up_to_the_limit_passes_beside_any_table(count: int, step: int) -> None:
    for size, passes in ((SMALL.message, True), (SMALL.message + 1, False)):
        table = [Entry(Part.DATA, 0, 0, size)] + [Entry(Part.DEAD, 0, 0, 0)] * (count - 1)
        data = frames.message(Kind.MESSAGE, 1, 7, 0, table, [bytes(size)])
        if not count:
            data = simple(size)
        events, error, _ = outcome(data, repeat(step))
        assert bool(events) == passes
        assert ("is over the limit" in error) != passes


@pytest.mark.parametrize("size", [SMALL.message, SMALL.message + 1])
def test_the_limit_is_the_same_for_what_comes_in_parts(size: int) -> None:
    stream = b"".join(in_parts(simple(size), 9, 2000, 5000))
    events, error, _ = outcome(stream)
    assert bool(events) == (size == SMALL.message)
    assert ("over the limit" in error) == (size > SMALL.message)


# Before the greeting.


def test_before_the_greeting_only_records_have_room() -> None:
    decoder, sink = new_decoder(greeted=False)
    feed(decoder, frames.record(Kind.HELLO, bytes(MAX_RECORD)))
    assert len(sink.events) == 1
    with pytest.raises(ProtocolError, match="over the limit of 4104"):
        feed(decoder, frames.record(Kind.HELLO, bytes(MAX_RECORD + 1)))
    assert len(sink.events) == 1


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.REPLY, Kind.PART])
def test_before_the_greeting_a_large_frame_is_refused_at_once(kind: Kind) -> None:
    decoder, _ = new_decoder(greeted=False)
    with pytest.raises(ProtocolError, match="over the limit of 4104"):
        feed(decoder, HEADER.pack(5000, kind, 0, 0))


def test_before_the_greeting_no_parts_are_collected() -> None:
    decoder, _ = new_decoder(greeted=False)
    with pytest.raises(ProtocolError, match="before the greeting"):
        feed(decoder, part(1, simple(10)[:10]))


@pytest.mark.parametrize("step", [1, 5, 1 << 17])
def test_what_follows_a_greeting_at_once_has_the_limits_that_it_brings(step: int) -> None:
    decoder, sink = new_decoder(greeted=False)

    def greet(event: tuple[object, ...]) -> None:
        decoder.greeted = True

    sink.on_event = greet
    feed(decoder, frames.record(Kind.HELLO, b"{}") + simple(9000), repeat(step))
    assert len(sink.events) == 2


# Tables.


def test_a_table_that_does_not_fit_into_its_frame_is_refused() -> None:
    data = message(3, 0, [Entry(Part.DEAD, 0, 0, 0)] * 2, b"")
    assert outcome(data)[1] == "a message's table of 3 components is cut off"


def test_more_components_than_the_limit_and_a_reply_port_are_refused() -> None:
    dead = Entry(Part.DEAD, 0, 0, 0)
    assert not outcome(message(9, REPLY_PORT, [dead] * 9, b""))[1]
    assert "10 components is over the limit of 8" in outcome(message(10, 0, [dead] * 10, b""))[1]


def test_more_descriptors_than_the_limit_are_refused() -> None:
    limits = SMALL._replace(descriptors=2)
    entry = Entry(Part.DESCRIPTOR, 0, 0, 0)
    assert not outcome(message(2, 0, [entry] * 2, b""), limits=limits)[1]
    error = outcome(message(3, 0, [entry] * 3, b""), limits=limits)[1]
    assert error == "a message of 3 descriptors is over the limit of 2"


@pytest.mark.parametrize("length", [4, 5, 2**32, 2**64 - 1])
def test_data_that_is_not_there_is_refused(length: int) -> None:
    table = [Entry(Part.DATA, 0, 0, 2), Entry(Part.DATA, 0, 0, length)]
    assert "component 1" in outcome(message(2, 0, table, b"abcde"))[1]


def test_data_that_no_component_claims_is_refused() -> None:
    data = message(1, 0, [Entry(Part.DATA, 0, 0, 2)], b"abcde")
    assert outcome(data)[1] == "3 bytes follow a message's last component"


@pytest.mark.parametrize("kind", [7, 8, 255])
def test_an_unknown_component_is_refused(kind: int) -> None:
    assert "is unknown" in outcome(message(1, 0, [Entry(kind, 0, 0, 0)], b""))[1]


@pytest.mark.parametrize("flags", range(256))
def test_only_flags_that_go_together_are_taken(flags: int) -> None:
    with_table = {0, REQUEST, REPLY_PORT}
    fine = {SIMPLE, SIMPLE | REQUEST, *with_table, *(flags | HEADERS for flags in with_table)}
    once = 1 if flags & REQUEST else 0
    table = [] if flags & SIMPLE else [Entry(Part.DEAD, 0, 0, 0)]
    events, error, _ = outcome(message(1, flags, table, b"", once))
    assert bool(events) == (flags in fine)
    assert bool(error) != (flags in fine)


@pytest.mark.parametrize("count", [0, 2, 65535])
def test_a_simple_message_has_one_component(count: int) -> None:
    assert "do not go together" in outcome(message(count, SIMPLE, [], b"abc"))[1]


@pytest.mark.parametrize(("flags", "once"), [(REQUEST, 0), (0, 1), (SIMPLE, 1)])
def test_a_request_has_a_right_to_be_answered_by(flags: int, once: int) -> None:
    data = message(1 if flags & SIMPLE else 0, flags, [], b"", once)
    assert outcome(data)[1] == "a request, and nothing else, has a send-once right"


# Parts.


def test_messages_in_parts_come_between_one_another() -> None:
    first, second = simple(3000, 1), simple(2000, 2)
    one = in_parts(first, 1, 8, 1000, 1000)
    two = in_parts(second, 2, 1500)
    stream = [one[0], two[0], frames.ping(), one[1], simple(3, 3), one[2], two[1], one[3]]
    events, error, may_end = outcome(b"".join(stream))
    assert (error, may_end) == ("", True)
    ping = (Frame(Kind.PING, 0, 0, 0, 0, b""),)
    (third,) = outcome(simple(3, 3))[0]
    assert events == [ping, third, *outcome(second)[0], *outcome(first)[0]]


def test_a_stream_that_has_ended_may_begin_again() -> None:
    stream = in_parts(simple(100), 4, 20) + in_parts(simple(200), 4, 20)
    events, error, _ = outcome(b"".join(stream))
    assert (len(events), error) == (2, "")


def test_a_message_may_come_in_one_part() -> None:
    assert len(outcome(part(1, simple(10), last=True))[0]) == 1


FRAME = simple(100)

BROKEN_PARTS = {
    "empty": (part(1, b""), "has a stream, and bytes"),
    "without a stream": (HEADER.pack(8, Kind.PART, 0, 0), "has a stream, and bytes"),
    "half a stream": (HEADER.pack(12, Kind.PART, 0, 0) + bytes(4), "has a stream, and bytes"),
    "unknown flags": (part(1, FRAME, flags=2), "has a stream, and bytes"),
    "no header": (part(1, FRAME[:7]), "first part holds its header"),
    "another type": (part(1, frames.ping(), last=True), "frame type 14 does not come in parts"),
    "parts of parts": (part(1, part(2, FRAME), last=True), "frame type 16 does not come in parts"),
    "the end too early": (part(1, FRAME[:50], last=True), "do not add up to its 128 bytes"),
    "no end": (part(1, FRAME), "do not add up to its 128 bytes"),
    "too much": (part(1, FRAME + b"x", last=True), "do not add up to its 128 bytes"),
    "too much later": (
        part(1, FRAME[:50]) + part(1, FRAME[50:] + b"x"),
        "do not add up to its 128 bytes",
    ),
    "a length of 0": (part(1, HEADER.pack(0, 5, 1, 1)), "do not add up to its 0 bytes"),
    "an empty message": (part(1, HEADER.pack(8, 5, 1, 1), last=True), "message of 8 bytes"),
    "a huge length": (part(1, HEADER.pack(2**32 - 1, 5, 1, 1)), "is over the limit"),
    "too many": (b"".join(part(n, FRAME[:50]) for n in range(3)), "more than 2 messages come"),
    "a broken table": (part(1, message(3, 0, [], b""), last=True), "is cut off"),
}


@pytest.mark.parametrize("case", BROKEN_PARTS)
def test_parts_that_make_no_message_are_refused(case: str) -> None:
    stream, text = BROKEN_PARTS[case]
    for step in (1, len(stream)):
        events, error, _ = outcome(stream, repeat(step))
        assert text in error
        assert events == []


def test_a_part_is_at_most_as_long_as_the_longest_message() -> None:
    most = PART_HEAD + MESSAGE_SIZE + ENTRY_SIZE * 10 + MAX_HEADERS + SMALL.message
    assert outcome(HEADER.pack(most, Kind.PART, 0, 0)) == ([], "", False)
    assert f"the limit of {most}" in outcome(HEADER.pack(most + 1, Kind.PART, 0, 0))[1]


# Anything.


@given(st.binary(max_size=500), sizes)
@settings(max_examples=300)
@example(HEADER.pack(8, 16, 0, 0), [])
def test_random_bytes_are_frames_or_refused(data: bytes, cuts: list[int]) -> None:
    assert outcome(data, cuts) == outcome(data)


@given(streams(), st.data(), sizes, scratch_sizes)
@settings(max_examples=500)
def test_damaged_streams_are_frames_or_refused(
    stream: list[bytes], data: st.DataObject, cuts: list[int], scratch_size: int
) -> None:
    damaged = bytearray(b"".join(stream))
    for _ in range(data.draw(st.integers(1, 4))):
        if not damaged:
            break
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["set", "flip", "cut", "insert"])):
            case "set":
                damaged[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
            case "flip":
                damaged[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del damaged[at : at + data.draw(st.integers(1, 20))]
            case _:
                damaged[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    whole = outcome(bytes(damaged))
    assert outcome(bytes(damaged), cuts, scratch_size=scratch_size) == whole
