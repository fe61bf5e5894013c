"""From the bytes of a link to frames: nothing here reads, and nothing here knows what frames mean.

Either a frame is passed on whole, or the peer broke the protocol: never anything else, whatever
the bytes are and however they are cut.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from portkit.errors import ProtocolError
from portkit.link.frames import (
    ENTRY,
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
    decode,
)

_MESSAGE = int(Kind.MESSAGE)
_REPLY = int(Kind.REPLY)
_PART = int(Kind.PART)
_DATA = int(Part.DATA)
_DESCRIPTOR = int(Part.DESCRIPTOR)
_BOTH = REQUEST | REPLY_PORT
_KINDS_OF_PARTS = frozenset(map(int, Part))

LAST = 1
"""Flag of a PART frame: with it the message is whole."""
PART_HEAD = HEADER_SIZE + 8
"""A PART frame's header and the number of the stream it belongs to."""
_ALWAYS = 4096
"""Bytes of a frame that are within the limits, whatever these are."""


class Limits(NamedTuple):
    """What one side of a link lets the other send.

    Attributes:
        message: bytes of the data in a message's frame; data out of line is not counted.
        components: of one message.
        descriptors: of one message.
        parts: messages that are on their way in parts at the same time.
        shared: bytes of memory that the other side lends; see :mod:`portkit.link.lending`.
    """

    message: int = 64 << 20
    components: int = 4096
    descriptors: int = 64
    parts: int = 16
    shared: int = 1 << 30


class Sink(Protocol):
    """Where frames go."""

    def on_simple(self, kind: int, msgid: int, target: int, once: int, data: bytes) -> None:
        """A MESSAGE or REPLY whose one component is data; ``once`` is 0 where it is no request."""

    def on_message(  # noqa: PLR0917 - the fields of a frame, in their order
        self,
        kind: int,
        flags: int,
        msgid: int,
        target: int,
        once: int,
        parts: list[bytes | Entry],
    ) -> None:
        """A MESSAGE or REPLY with a table: each of its parts is data, or what the table says."""

    def on_frame(self, frame: Frame) -> None:
        """Any other frame."""


class _Collected:
    """A message that comes in parts, as far as it has come.

    Attributes:
        data: longer than what has come.
        size: bytes that have come.
        length: bytes that are to come in all, as its header says.
    """

    __slots__ = ("data", "length", "size")

    def __init__(self) -> None:
        try:
            self.data: bytearray = _spare.pop()
        except IndexError:
            self.data = bytearray()
        self.size: int = 0
        self.length: int = 0

    def add(self, part: memoryview) -> None:
        """It grows as bytes come: a length alone costs nothing."""
        end = self.size + len(part)
        if end > len(self.data):
            size = max(end, min(2 * len(self.data), self.length))
            self.data += bytes(size - len(self.data))
        self.data[self.size : end] = part
        self.size = end

    def give_back(self) -> None:
        """It was passed on: the next one need not have the kernel find memory, page by page."""
        if len(self.data) <= _MOST_SPARE and not _spare:
            _spare.append(self.data)


_spare: list[bytearray] = []
_MOST_SPARE = 1 << 22
"""Bytes that are kept for the next message in parts. Without them fresh memory costs twice what
all the rest of its way does."""


class Decoder:
    """Collects bytes and passes on frames.

    Args:
        sink: where they go.
        limits: what the peer may send; until it is ``greeted`` only the handshake's size.

    Attributes:
        descriptors: those that came and were not claimed by a frame yet.
        greeted: whether the handshake is over, and the limits hold in full.
    """

    __slots__ = (
        "_carry",
        "_filled",
        "_large",
        "_limits",
        "_parts",
        "_sink",
        "_wanted",
        "descriptors",
        "greeted",
    )

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink = sink
        self._limits = limits
        self._carry = b""
        self._large: bytearray | None = None
        self._filled = 0
        self._wanted = 0
        self._parts: dict[int, _Collected] = {}
        self.descriptors: deque[int] = deque()
        self.greeted: bool = False

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame is missing: the stream may end here."""
        return not self._carry and self._large is None and not self._parts

    def buffer(self, scratch: memoryview) -> memoryview:
        """Where the next bytes are to be written: ``scratch``, or where a large frame grows."""
        large = self._large
        if large is not None:
            if self._filled == len(large):  # grown as bytes come: a length alone costs nothing
                grown = self._large = bytearray(min(self._wanted, 2 * len(large)))
                grown[: len(large)] = large
                large = grown
            return memoryview(large)[self._filled :]
        carry = self._carry
        if carry:
            scratch[: len(carry)] = carry
            return scratch[len(carry) :]
        return scratch

    def received(self, scratch: memoryview, count: int) -> None:
        """So many bytes were written into :meth:`buffer`; pass on the frames that are whole.

        Raises:
            ProtocolError: the bytes are not what the protocol allows; nothing may follow.
        """
        large = self._large
        if large is not None:
            self._filled += count
            if self._filled == self._wanted:
                self._large = None
                self._parse(memoryview(large), len(large))
            return
        end = len(self._carry) + count
        self._carry = b""
        start = self._parse(scratch, end)
        if start == end:
            return
        rest = scratch[start:end]
        length = HEADER.unpack_from(rest)[0] if len(rest) >= HEADER_SIZE else 0
        if length > len(scratch):
            self._large = bytearray(min(length, 2 * len(scratch)))
            self._large[: len(rest)] = rest
            self._filled = len(rest)
            self._wanted = length
        else:
            self._carry = bytes(rest)

    def _parse(self, data: memoryview, end: int) -> int:  # noqa: C901 - hot path
        """Pass on the whole frames in ``data[:end]``; where the rest begins."""
        start = 0
        on_simple = self._sink.on_simple
        while True:
            if end - start >= MESSAGE_SIZE:
                # Of a frame that is no message the last three are bytes of what follows it.
                length, kind, flags, count, msgid, target, once = MESSAGE.unpack_from(data, start)
                stop = start + length
                if kind == _MESSAGE and MESSAGE_SIZE <= length <= _ALWAYS and stop <= end:
                    simple = SIMPLE | REQUEST if once else SIMPLE
                    if flags == simple and count == 1:  # as below, by the shortest way
                        on_simple(
                            kind, msgid, target, once, bytes(data[start + MESSAGE_SIZE : stop])
                        )
                        start = stop
                        continue
            elif end - start >= HEADER_SIZE:
                length, kind, flags, count = HEADER.unpack_from(data, start)
                stop = start + length
                msgid = target = once = 0
            else:
                return start
            if length > _ALWAYS:
                self._check_length(length, kind, flags, count)
            if length > end - start:
                return start
            if length < HEADER_SIZE:
                raise ProtocolError(f"a frame has at least {HEADER_SIZE} bytes, not {length}")
            if kind == _MESSAGE or kind == _REPLY:  # noqa: PLR1714, SIM109 - twice as fast
                if length < MESSAGE_SIZE:
                    raise ProtocolError(f"a message of {length} bytes is cut off")
                if bool(flags & REQUEST) != bool(once):
                    raise ProtocolError("a request, and nothing else, has a send-once right")
                if flags & SIMPLE:
                    if flags & ~(SIMPLE | REQUEST) or count != 1:
                        raise ProtocolError(f"flags {flags:#x} do not go together")
                    body = bytes(data[start + MESSAGE_SIZE : stop])
                    on_simple(kind, msgid, target, once, body)
                else:
                    parts = self._table(data[start:stop], flags, count)
                    self._sink.on_message(kind, flags, msgid, target, once, parts)
            elif kind == _PART:
                self._add_part(data[start:stop], flags)
            else:
                self._sink.on_frame(decode(kind, flags, data[start:stop]))
            start = stop

    def _check_length(self, length: int, kind: int, flags: int, count: int) -> None:
        """Whether a frame with this header may come."""
        limits = self._limits
        most = HEADER_SIZE + MAX_RECORD
        if self.greeted and kind in (_MESSAGE, _REPLY):
            table = 0
            if not flags & SIMPLE:
                table = ENTRY_SIZE * min(count, limits.components + _beside(flags))
            if flags & HEADERS:
                table += MAX_HEADERS
            most = MESSAGE_SIZE + table + limits.message
        elif self.greeted and kind == _PART:
            table = ENTRY_SIZE * (limits.components + 2) + MAX_HEADERS
            most = PART_HEAD + MESSAGE_SIZE + table + limits.message
        if length > most:
            hint = "" if self.greeted else ": see whether the peer is a port of portkit"
            raise ProtocolError(f"a frame of {length} bytes is over the limit of {most}{hint}")

    def _table(self, frame: memoryview, flags: int, count: int) -> list[bytes | Entry]:
        """The parts of a message that has a table; their lengths add up to the frame's."""
        if flags & ~(REQUEST | REPLY_PORT | HEADERS) or flags & _BOTH == _BOTH:
            raise ProtocolError(f"flags {flags:#x} of a message do not go together")
        if count > self._limits.components + _beside(flags):
            raise ProtocolError(
                f"a message of {count} components is over the limit of {self._limits.components}"
            )
        position = MESSAGE_SIZE + ENTRY_SIZE * count
        if position > len(frame):
            raise ProtocolError(f"a message's table of {count} components is cut off")
        kinds = frame[MESSAGE_SIZE:position:ENTRY_SIZE].tobytes()
        parts: list[bytes | Entry] = []
        for index in range(count):
            part, a, b, c = ENTRY.unpack_from(frame, MESSAGE_SIZE + ENTRY_SIZE * index)
            if part == _DATA:
                if c > len(frame) - position:
                    raise ProtocolError(f"component {index} of {c} bytes is cut off")
                parts.append(bytes(frame[position : position + c]))
                position += c
            elif part in _KINDS_OF_PARTS:
                parts.append(Entry(part, a, b, c))
            else:
                raise ProtocolError(f"component kind {part} is unknown")
        if kinds.count(_DESCRIPTOR) > self._limits.descriptors:
            raise ProtocolError(
                f"a message of {kinds.count(_DESCRIPTOR)} descriptors is over the limit of "
                f"{self._limits.descriptors}"
            )
        if position != len(frame):
            raise ProtocolError(f"{len(frame) - position} bytes follow a message's last component")
        return parts

    def _add_part(self, frame: memoryview, flags: int) -> None:
        """Collect the parts of a message that comes in several frames, and pass it on whole."""
        if not self.greeted:
            raise ProtocolError("a part of a message came before the greeting")
        if len(frame) <= PART_HEAD or flags & ~LAST:
            raise ProtocolError("a part of a message has a stream, and bytes of the message")
        stream = int.from_bytes(frame[HEADER_SIZE:PART_HEAD], "little")
        collected = self._parts.get(stream)
        if collected is None:
            if len(self._parts) >= self._limits.parts:
                raise ProtocolError(f"more than {self._limits.parts} messages come in parts")
            if len(frame) < PART_HEAD + HEADER_SIZE:
                raise ProtocolError("a message's first part holds its header")
            kind = frame[PART_HEAD + 4]
            if kind not in (_MESSAGE, _REPLY):
                raise ProtocolError(f"frame type {kind} does not come in parts")
            collected = self._parts[stream] = _Collected()
        collected.add(frame[PART_HEAD:])
        header = HEADER.unpack_from(collected.data)
        length = collected.length = header[0]
        self._check_length(*header)
        if collected.size > length or (bool(flags & LAST) != (collected.size == length)):
            raise ProtocolError(f"the parts of a message do not add up to its {length} bytes")
        if flags & LAST:
            del self._parts[stream]
            self._parse(memoryview(collected.data), length)
            collected.give_back()


def _beside(flags: int) -> int:
    """Entries of a message's table that are no components: the port to answer to, the headers."""
    return bool(flags & REPLY_PORT) + bool(flags & HEADERS)
