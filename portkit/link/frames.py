"""The frames that two sides of a link exchange: their bytes, and nothing of what they mean.

Every frame begins with its length, type, flags and a count; integers are little-endian. The
document is docs/wire-protocol.md; this module is the only other place that knows the layout.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from portkit.errors import ProtocolError
from portkit.hooks import HEADERS_LIMIT

VERSION = 1

HEADER = Struct("<IBBH")
"""Length of the whole frame, type, flags, count."""
HEADER_SIZE = HEADER.size
MESSAGE = Struct("<IBBHIQQ")
"""The header, then msgid, the right it goes to, and the send-once right that answers it."""
MESSAGE_SIZE = MESSAGE.size
ENTRY = Struct("<B3xIQQ")
"""A component in a message's table: kind, and three numbers whose meaning is the kind's."""
ENTRY_SIZE = ENTRY.size
_RIGHT = Struct("<IBBHQ")
_CREDIT = Struct("<IBBHQIQ")
_RELEASE = Struct("<IBBHQQ")
_OPEN = Struct("<IBBHQ16s16s")
_FAILED = Struct("<IBBHQ")
_SEGMENT = Struct("<IBBHQQ")
_AUTH = Struct("<IBBH32s")

SIMPLE = 1
"""Flag of a message: its one component is data, the rest of the frame; there is no table."""
REQUEST = 2
"""Flag of a message: the send-once right is there."""
REPLY_PORT = 4
"""Flag of a message: the first entry of the table is the port to answer to."""
HEADERS = 8
"""Flag of a message: the last entry of the table is data, a JSON object of its headers."""

MAX_RECORD = 4096
"""Bytes of a handshake's record, and of the body of any frame before the handshake is done."""
MAX_HEADERS = HEADERS_LIMIT
"""Bytes of a message's headers."""
MAX_TEXT = 1024
"""Bytes of an error's text."""
NONCE_SIZE = 32
"""Bytes of a nonce, and of a proof, in AUTH."""
MAX_KEY_ID = 64
"""Bytes of the id of a pre-shared key."""


class Kind(IntEnum):
    """A frame's type."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    OPEN = 4
    MESSAGE = 5
    REPLY = 6
    FAILED = 7
    CREDIT = 8
    RELEASE = 9
    DEAD = 10
    SEGMENT = 11
    RETURN = 12
    FORGET = 13
    PING = 14
    PONG = 15
    PART = 16
    AUTH = 17
    GIVE_UP = 18


class Part(IntEnum):
    """A component's kind in a message's table, and what its numbers a, b, c are."""

    DATA = 0
    """Data in the frame: c its length."""
    MINE = 1
    """A port whose right the sender has: b its number, a and c the window if it is a new right."""
    YOURS = 2
    """A port of the receiver's, sent home: b its number."""
    ONCE = 3
    """A send-once right of the sender's: b its number."""
    DEAD = 4
    """A port that had ended when it was sent."""
    DESCRIPTOR = 5
    """The next of the descriptors that came with the frame."""
    OUT_OF_LINE = 6
    """Data in a segment: a the segment, b the offset, c the length."""


class Entry(NamedTuple):
    """A component of a message as its table has it; ``a``, ``b``, ``c`` as :class:`Part` says."""

    part: int
    a: int
    b: int
    c: int


def record(kind: Kind, body: bytes) -> bytes:
    """HELLO, WELCOME or REFUSED, with the record as JSON."""
    return HEADER.pack(HEADER_SIZE + len(body), kind, 0, 0) + body


def refusal(reason: str) -> bytes:
    """REFUSED: why the connection is not wanted, for people."""
    return record(Kind.REFUSED, reason.encode(errors="replace")[:MAX_TEXT])


def open_right(number: int, port_id: bytes, incarnation: bytes) -> bytes:
    """OPEN: the sender wants to send to a port that it knows by its address."""
    return _OPEN.pack(_OPEN.size, Kind.OPEN, 0, 0, number, port_id, incarnation)


def credit(number: int, messages: int, size: int) -> bytes:
    """CREDIT: room for so many more messages and bytes at the sender's port."""
    return _CREDIT.pack(_CREDIT.size, Kind.CREDIT, 0, 0, number, messages, size)


def release(number: int, count: int) -> bytes:
    """RELEASE: the sender no longer holds the right, which had come to it ``count`` times."""
    return _RELEASE.pack(_RELEASE.size, Kind.RELEASE, 0, 0, number, count)


def dead(number: int) -> bytes:
    """DEAD: the sender's port has ended."""
    return _RIGHT.pack(_RIGHT.size, Kind.DEAD, 0, 0, number)


def failed(number: int, code: int, text: str) -> bytes:
    """FAILED: the request will not be answered; ``code`` says why, and ``text`` for people."""
    body = text.encode(errors="replace")[:MAX_TEXT]
    return _FAILED.pack(_FAILED.size + len(body), Kind.FAILED, code, 0, number) + body


def give_up(number: int) -> bytes:
    """GIVE_UP: the sender waits no more for the answer by that send-once right."""
    return _RIGHT.pack(_RIGHT.size, Kind.GIVE_UP, 0, 0, number)


def segment(segment_id: int, size: int) -> bytes:
    """SEGMENT: the descriptor that comes along is the memory with that number."""
    return _SEGMENT.pack(_SEGMENT.size, Kind.SEGMENT, 0, 1, segment_id, size)


def segment_return(segment_id: int) -> bytes:
    """RETURN: the receiver of a segment is done with what lay in it."""
    return _RIGHT.pack(_RIGHT.size, Kind.RETURN, 0, 0, segment_id)


def segment_forget(segment_id: int) -> bytes:
    """FORGET: the owner of a segment will not use it again."""
    return _RIGHT.pack(_RIGHT.size, Kind.FORGET, 0, 0, segment_id)


def ping() -> bytes:
    """PING: asks for a PONG, so that the sender hears from the other side."""
    return HEADER.pack(HEADER_SIZE, Kind.PING, 0, 0)


def pong() -> bytes:
    """PONG: answers a PING."""
    return HEADER.pack(HEADER_SIZE, Kind.PONG, 0, 0)


def auth(step: int, body: bytes) -> bytes:
    """AUTH: a step of the proof of a pre-shared key; ``body`` is a nonce or a proof, and the id."""
    return HEADER.pack(HEADER_SIZE + len(body), Kind.AUTH, step, 0) + body


class LongMessage:
    """A simple message whose data is not copied behind its head: it is written in pieces anyway.

    Args:
        head: up to the data.
        data: all of it.
    """

    __slots__ = ("data", "head")

    def __init__(self, head: bytes, data: bytes) -> None:
        self.head: bytes = head
        self.data: memoryview = memoryview(data)

    def __len__(self) -> int:
        return len(self.head) + len(self.data)


def simple_message(kind: int, target: int, msgid: int, once: int, data: bytes) -> bytes:
    """MESSAGE or REPLY with one data component; ``once`` is 0 for a message that is no request."""
    flags = SIMPLE | REQUEST if once else SIMPLE
    return MESSAGE.pack(MESSAGE_SIZE + len(data), kind, flags, 1, msgid, target, once) + data


def long_message(kind: int, target: int, msgid: int, once: int, data: bytes) -> LongMessage:
    """As :func:`simple_message`, for data that goes in parts."""
    flags = SIMPLE | REQUEST if once else SIMPLE
    head = MESSAGE.pack(MESSAGE_SIZE + len(data), kind, flags, 1, msgid, target, once)
    return LongMessage(head, data)


def message(  # noqa: PLR0917 - the fields of a frame, in their order
    kind: int,
    target: int,
    msgid: int,
    once: int,
    entries: list[Entry],
    data: list[bytes],
    flags: int = 0,
) -> bytes:
    """MESSAGE or REPLY with a table; ``data`` are the DATA components in their order."""
    flags |= REQUEST if once else 0
    body = b"".join(data)
    length = MESSAGE_SIZE + ENTRY_SIZE * len(entries) + len(body)
    head = MESSAGE.pack(length, kind, flags, len(entries), msgid, target, once)
    return b"".join([head, *[ENTRY.pack(*entry) for entry in entries], body])


def carries_rights(frame: bytes | LongMessage) -> bool:
    """Whether a message names ports or requests: later frames may be about them."""
    if isinstance(frame, LongMessage):
        return False
    _, kind, flags, entries = HEADER.unpack_from(frame)
    if kind not in (Kind.MESSAGE, Kind.REPLY) or flags & SIMPLE:
        return False
    table = frame[MESSAGE_SIZE : MESSAGE_SIZE + ENTRY_SIZE * entries : ENTRY_SIZE]
    return Part.MINE in table or Part.YOURS in table or Part.ONCE in table


class Frame(NamedTuple):
    """A frame that came, other than a message.

    ``a``, ``b`` and ``c`` are its numbers in their order; those it has not are 0.
    """

    kind: Kind
    flags: int
    a: int
    b: int
    c: int
    body: bytes


_LAYOUTS: dict[int, Struct] = {
    Kind.CREDIT: _CREDIT,
    Kind.RELEASE: _RELEASE,
    Kind.DEAD: _RIGHT,
    Kind.SEGMENT: _SEGMENT,
    Kind.RETURN: _RIGHT,
    Kind.FORGET: _RIGHT,
    Kind.PING: HEADER,
    Kind.PONG: HEADER,
    Kind.OPEN: _OPEN,
    Kind.FAILED: _FAILED,
    Kind.HELLO: HEADER,
    Kind.WELCOME: HEADER,
    Kind.REFUSED: HEADER,
    Kind.AUTH: _AUTH,
    Kind.GIVE_UP: _RIGHT,
}
_MOST_BODY = {
    Kind.FAILED: MAX_TEXT,
    Kind.HELLO: MAX_RECORD,
    Kind.WELCOME: MAX_RECORD,
    Kind.REFUSED: MAX_RECORD,
    Kind.AUTH: MAX_KEY_ID,
}


def decode(kind: int, flags: int, frame: memoryview) -> Frame:
    """A whole frame that is not a message.

    Raises:
        ProtocolError: there is no such type, or the frame has the wrong length for it.
    """
    layout = _LAYOUTS.get(kind)
    if layout is None:
        raise ProtocolError(f"frame type {kind} is unknown")
    most = layout.size + _MOST_BODY.get(Kind(kind), 0)
    if not layout.size <= len(frame) <= most:
        raise ProtocolError(
            f"a {Kind(kind).name} frame has {layout.size} to {most} bytes, not {len(frame)}"
        )
    values = layout.unpack_from(frame)[4:]
    if kind == Kind.OPEN:
        return Frame(Kind.OPEN, flags, values[0], 0, 0, values[1] + values[2])
    if kind == Kind.AUTH:
        return Frame(Kind.AUTH, flags, 0, 0, 0, bytes(frame[HEADER_SIZE:]))
    a, b, c = (*values, 0, 0, 0)[:3]
    return Frame(Kind(kind), flags, a, b, c, bytes(frame[layout.size :]))
