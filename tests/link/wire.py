"""Bytes of links for tests: what a decoder makes of them, and streams to feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat

from hypothesis import strategies as st

from portkit.errors import ProtocolError
from portkit.link import frames
from portkit.link.decoder import LAST, PART_HEAD, Decoder, Limits
from portkit.link.frames import HEADER, REPLY_PORT, Entry, Frame, Kind, Part

SMALL = Limits(message=10_000, components=8, descriptors=9, parts=2)
"""Limits that a test can overstep without much ado."""


class Recorder:
    """A sink that keeps what comes, in a form that can be compared.

    Attributes:
        events: a tuple for each frame.
        on_event: called with each.
    """

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.on_event: Callable[[tuple[object, ...]], None] = lambda event: None

    def _add(self, *event: object) -> None:
        self.events.append(event)
        self.on_event(event)

    def on_simple(self, kind: int, msgid: int, target: int, once: int, data: bytes) -> None:
        """Keep it."""
        self._add(kind, msgid, target, once, data)

    def on_message(  # noqa: PLR0917 - as Sink
        self,
        kind: int,
        flags: int,
        msgid: int,
        target: int,
        once: int,
        parts: list[bytes | Entry],
    ) -> None:
        """Keep it."""
        self._add(kind, flags, msgid, target, once, *parts)

    def on_frame(self, frame: Frame) -> None:
        """Keep it."""
        self._add(frame)


def new_decoder(limits: Limits = SMALL, *, greeted: bool = True) -> tuple[Decoder, Recorder]:
    """A decoder and what it passes frames to."""
    sink = Recorder()
    decoder = Decoder(sink, limits)
    decoder.greeted = greeted
    return decoder, sink


def feed(
    decoder: Decoder, data: bytes, sizes: Iterable[int] = (), scratch_size: int = 1 << 17
) -> None:
    """Have the decoder receive ``data`` in pieces of these sizes, and then of any size."""
    scratch = memoryview(bytearray(scratch_size))
    position = 0
    turns: Iterator[int] = chain(sizes, repeat(len(data)))
    while position < len(data):
        buffer = decoder.buffer(scratch)
        assert len(buffer), "there must be a place for what comes next"
        size = min(next(turns), len(buffer), len(data) - position)
        buffer[:size] = data[position : position + size]
        position += size
        decoder.received(scratch, size)


def outcome(
    data: bytes,
    sizes: Iterable[int] = (),
    limits: Limits = SMALL,
    *,
    scratch_size: int = 1 << 17,
) -> tuple[list[tuple[object, ...]], str, bool]:
    """What comes of the bytes: the frames, the error's text, and whether the stream may end."""
    decoder, sink = new_decoder(limits)
    try:
        feed(decoder, data, sizes, scratch_size)
    except ProtocolError as error:
        return sink.events, str(error), False
    return sink.events, "", decoder.is_between_frames


def part(stream: int, data: bytes, *, last: bool = False, flags: int = 0) -> bytes:
    """A PART frame."""
    head = HEADER.pack(PART_HEAD + len(data), Kind.PART, flags | (LAST if last else 0), 0)
    return head + stream.to_bytes(8, "little") + data


def in_parts(frame: bytes, stream: int, *sizes: int) -> list[bytes]:
    """A message's frame as PART frames, of these sizes and one of what is left."""
    found: list[bytes] = []
    for size in sizes:
        found.append(part(stream, frame[:size]))
        frame = frame[size:]
    return [*found, part(stream, frame, last=True)]


# Strategies.

numbers = st.integers(1, 2**64 - 1)
small = st.integers(0, 2**32 - 1)
kinds = st.sampled_from([Kind.MESSAGE, Kind.REPLY])
simple_messages = st.builds(
    frames.simple_message, kinds, numbers, small, st.just(0) | numbers, st.binary(max_size=200)
)
entries = st.builds(
    Entry,
    st.sampled_from([int(kind) for kind in Part if kind != Part.DATA]),
    small,
    numbers,
    numbers,
)


def _message(  # noqa: PLR0917 - the fields of a frame
    kind: int, target: int, msgid: int, once: int, parts: list[bytes | Entry], reply_port: bool
) -> bytes:
    table = [
        Entry(Part.DATA, 0, 0, len(part)) if isinstance(part, bytes) else part for part in parts
    ]
    data = [part for part in parts if isinstance(part, bytes)]
    given = 0 if reply_port else once
    flags = frames.REPLY_PORT if reply_port else 0
    return frames.message(kind, target, msgid, given, table, data, flags)


tables = st.builds(
    _message,
    kinds,
    numbers,
    small,
    st.just(0) | numbers,
    st.lists(st.binary(max_size=100) | entries, max_size=8),
    st.booleans(),
)
messages = simple_messages | tables
others = st.one_of(
    st.builds(frames.credit, numbers, small, numbers),
    st.builds(frames.release, numbers, numbers),
    st.builds(frames.dead, numbers),
    st.builds(frames.failed, numbers, st.integers(0, 255), st.text(max_size=50)),
    st.builds(frames.give_up, numbers),
    st.builds(frames.segment, numbers, numbers),
    st.builds(frames.segment_return, numbers),
    st.builds(frames.segment_forget, numbers),
    st.builds(
        frames.open_right,
        numbers,
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=16, max_size=16),
    ),
    st.builds(
        frames.record,
        st.sampled_from([Kind.HELLO, Kind.WELCOME, Kind.REFUSED]),
        st.binary(max_size=100),
    ),
    st.builds(frames.auth, st.integers(0, 255), st.binary(min_size=32, max_size=96)),
    st.just(frames.ping()),
    st.just(frames.pong()),
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Frames that may follow one another, some messages in parts that others come between."""
    found: list[bytes] = []
    waiting: list[list[bytes]] = []
    for number, frame in enumerate(draw(st.lists(messages | others, max_size=8))):
        is_message = frame[4] in {Kind.MESSAGE, Kind.REPLY}
        if is_message and len(waiting) < SMALL.parts and draw(st.booleans()):
            waiting.append(in_parts(frame, number, draw(st.integers(8, len(frame) - 1))))
        else:
            found.append(frame)
        for pieces in list(waiting):
            if draw(st.booleans()):
                found.append(pieces.pop(0))
                if not pieces:
                    waiting.remove(pieces)
    return found + [piece for pieces in waiting for piece in pieces]


def encode(event: tuple[object, ...]) -> bytes:
    """The frame that makes this event."""
    if isinstance(event[0], Frame):
        return _encode_frame(event[0])
    if isinstance(event[-1], bytes) and len(event) == 5:
        kind, msgid, target, once, data = event
        return frames.simple_message(kind, target, msgid, once, data)  # type: ignore[arg-type]
    kind, flags, msgid, target, once, *parts = event
    return _message(
        kind,  # type: ignore[arg-type]
        target,  # type: ignore[arg-type]
        msgid,  # type: ignore[arg-type]
        once,  # type: ignore[arg-type]
        parts,  # type: ignore[arg-type]
        bool(flags & REPLY_PORT),  # type: ignore[operator]
    )


def _encode_frame(frame: Frame) -> bytes:  # noqa: C901 - one line for each
    match frame.kind:
        case Kind.OPEN:
            return frames.open_right(frame.a, frame.body[:16], frame.body[16:])
        case Kind.CREDIT:
            return frames.credit(frame.a, frame.b, frame.c)
        case Kind.RELEASE:
            return frames.release(frame.a, frame.b)
        case Kind.DEAD:
            return frames.dead(frame.a)
        case Kind.FAILED:
            return frames.failed(frame.a, frame.flags, frame.body.decode())
        case Kind.GIVE_UP:
            return frames.give_up(frame.a)
        case Kind.SEGMENT:
            return frames.segment(frame.a, frame.b)
        case Kind.RETURN:
            return frames.segment_return(frame.a)
        case Kind.FORGET:
            return frames.segment_forget(frame.a)
        case Kind.AUTH:
            return frames.auth(frame.flags, frame.body)
        case Kind.PING:
            return frames.ping()
        case Kind.PONG:
            return frames.pong()
        case _:
            return frames.record(frame.kind, frame.body)
