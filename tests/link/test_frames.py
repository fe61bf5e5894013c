"""Frames: what each has in it comes out again, and a frame of the wrong form is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.errors import ProtocolError
from portkit.link import frames
from portkit.link.frames import Entry, Frame, Kind, Part, carries_rights, decode
from tests.link.wire import encode, messages, new_decoder, others, outcome

MOST = (1 << 64) - 1

FRAMES = [
    (frames.record(Kind.HELLO, b"{}"), Frame(Kind.HELLO, 0, 0, 0, 0, b"{}")),
    (frames.record(Kind.WELCOME, b"{}"), Frame(Kind.WELCOME, 0, 0, 0, 0, b"{}")),
    (frames.refusal("no"), Frame(Kind.REFUSED, 0, 0, 0, 0, b"no")),
    (
        frames.open_right(1 << 63, bytes(range(16)), bytes(16)),
        Frame(Kind.OPEN, 0, 1 << 63, 0, 0, bytes(range(16)) + bytes(16)),
    ),
    (frames.failed(MOST, 3, "why"), Frame(Kind.FAILED, 3, MOST, 0, 0, b"why")),
    (frames.credit(7, 2**32 - 1, MOST), Frame(Kind.CREDIT, 0, 7, 2**32 - 1, MOST, b"")),
    (frames.release(7, MOST), Frame(Kind.RELEASE, 0, 7, MOST, 0, b"")),
    (frames.dead(7), Frame(Kind.DEAD, 0, 7, 0, 0, b"")),
    (frames.segment(3, 1 << 40), Frame(Kind.SEGMENT, 0, 3, 1 << 40, 0, b"")),
    (frames.segment_return(3), Frame(Kind.RETURN, 0, 3, 0, 0, b"")),
    (frames.segment_forget(3), Frame(Kind.FORGET, 0, 3, 0, 0, b"")),
    (frames.ping(), Frame(Kind.PING, 0, 0, 0, 0, b"")),
    (frames.pong(), Frame(Kind.PONG, 0, 0, 0, 0, b"")),
    (frames.give_up(9), Frame(Kind.GIVE_UP, 0, 9, 0, 0, b"")),
    (frames.auth(1, bytes(range(40))), Frame(Kind.AUTH, 1, 0, 0, 0, bytes(range(40)))),
]
"""Every frame but messages and their parts."""


def frame_id(value: object) -> str:
    return value.kind.name if isinstance(value, Frame) else ""


@pytest.mark.parametrize(("data", "frame"), FRAMES, ids=frame_id)
def test_what_is_in_a_frame_comes_out(data: bytes, frame: Frame) -> None:
    assert outcome(data) == ([(frame,)], "", True)


def test_every_type_is_in_the_table() -> None:
    shown = {frame.kind for _, frame in FRAMES}
    assert shown == set(Kind) - {Kind.MESSAGE, Kind.REPLY, Kind.PART}


@given(messages | others)
def test_a_frame_that_was_read_is_written_the_same(data: bytes) -> None:
    events, error, _ = outcome(data)
    assert not error
    assert [encode(event) for event in events] == [data]


@pytest.mark.parametrize(("data", "frame"), FRAMES, ids=frame_id)
def test_a_frame_that_is_too_short_is_refused(data: bytes, frame: Frame) -> None:
    short = data
    if frame.kind == Kind.AUTH:
        short = data[: frames.HEADER_SIZE + frames.NONCE_SIZE]
    elif frame.kind != Kind.OPEN and frame.body:
        short = data[: -len(frame.body)]
    if len(short) == frames.HEADER_SIZE:
        return  # nothing shorter is a frame
    short = short[:-1]
    with pytest.raises(ProtocolError, match=rf"{frame.kind.name} frame has .* not {len(short)}"):
        decode(frame.kind, 0, memoryview(short))


@pytest.mark.parametrize(("data", "frame"), FRAMES, ids=frame_id)
def test_a_frame_that_is_too_long_is_refused(data: bytes, frame: Frame) -> None:
    most = {Kind.FAILED: frames.MAX_TEXT}.get(frame.kind, 0)
    if frame.kind in {Kind.HELLO, Kind.WELCOME, Kind.REFUSED}:
        most = frames.MAX_RECORD
    if frame.kind == Kind.AUTH:
        most = frames.NONCE_SIZE + frames.MAX_KEY_ID
    body = b"" if frame.kind == Kind.OPEN else frame.body
    longest = data[: len(data) - len(body)] + bytes(most)
    decode(frame.kind, 0, memoryview(longest))
    with pytest.raises(ProtocolError, match=f"not {len(longest) + 1}"):
        decode(frame.kind, 0, memoryview(longest + b"x"))


@pytest.mark.parametrize("kind", [0, 19, 128, 255])
def test_an_unknown_type_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"frame type {kind} is unknown"):
        decode(kind, 0, memoryview(bytes(8)))


@pytest.mark.parametrize("kind", [Kind.CREDIT, Kind.PING, Kind.SEGMENT])
def test_flags_and_counts_without_meaning_are_not_looked_at(kind: Kind) -> None:
    data = bytearray(next(data for data, frame in FRAMES if frame.kind == kind))
    data[5] = 0xFF
    data[6:8] = b"\xff\xff"
    events, error, _ = outcome(bytes(data))
    assert not error
    assert len(events) == 1


# Texts.


@pytest.mark.parametrize("text", ["", "no", "ä" * 4000, "\udcff", "x" * 1023 + "ä"])
def test_texts_of_any_kind_can_be_sent(text: str) -> None:
    for data in (frames.failed(1, 1, text), frames.refusal(text)):
        events, error, _ = outcome(data)
        assert not error
        (frame,) = events[0]
        assert isinstance(frame, Frame)
        assert len(frame.body) <= frames.MAX_TEXT
        assert frame.body == text.encode(errors="replace")[: frames.MAX_TEXT]


# Which messages name ports.


@pytest.mark.parametrize("part", list(Part))
def test_messages_that_name_ports_are_told_from_others(part: Part) -> None:
    data = [bytes([Part.MINE, Part.YOURS]) * 50]
    table = [Entry(Part.DATA, 0, 0, 100), Entry(part, 1, 2, 0)]
    frame = frames.message(Kind.REPLY, 1, 1, 0, table, data)
    assert carries_rights(frame) == (part in {Part.MINE, Part.YOURS, Part.ONCE})


@given(st.binary(min_size=24, max_size=60), others)
def test_data_and_other_frames_name_no_ports(data: bytes, other: bytes) -> None:
    assert not carries_rights(frames.simple_message(Kind.MESSAGE, 1, 1, 1, data))
    assert not carries_rights(other)


def test_a_message_may_have_no_component_at_all() -> None:
    decoder, sink = new_decoder()
    frame = memoryview(frames.message(Kind.MESSAGE, 5, 6, 0, [], []))
    decoder.received(frame, len(frame))
    assert sink.events == [(Kind.MESSAGE, 0, 6, 5, 0)]
