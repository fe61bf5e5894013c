"""Components on their way: what of a message goes into its frame, and what comes out of it.

Sending has two steps. :func:`prepare` checks everything and puts large data where the peer will
see it, without the link's lock. :func:`encode` makes the frame, with it: only there rights are
recorded, so that a message that is refused leaves nothing behind.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, cast

from portkit.errors import InvalidPortError, MessageTooLargeError, ProtocolError
from portkit.link.descriptor import Descriptor
from portkit.link.frames import HEADERS, MAX_HEADERS, REPLY_PORT, Entry, Part, message
from portkit.link.remote_port import Reached, RemotePort
from portkit.link.segment import Block
from portkit.message import Component, Contents, Packed
from portkit.port import Port, ReplyPort

if TYPE_CHECKING:
    from portkit.link.link import Link


class Prepared(NamedTuple):
    """A message that may be sent.

    Attributes:
        components: as they were given.
        blocks: for each component its place out of line, or None.
        reply_port: a port to answer to that is no send-once right, or None.
        headers: as they travel; empty where there are none.
    """

    components: tuple[Component, ...]
    blocks: tuple[Block | None, ...]
    reply_port: Port | None
    headers: bytes


def prepare(  # noqa: C901 - all checks in one place
    link: Link, packed: Packed, reply_port: Port | None
) -> Prepared:
    """Check the components and lend out the large ones.

    Raises:
        InvalidPayloadError: a payload cannot be encoded.
        TypeError: a component cannot travel over this link.
        MessageTooLargeError: the message is over a limit that the peer announced.
    """
    limits = link.peer_limits
    headers = b""
    if type(packed) is tuple:
        components = packed
    else:
        contents = cast("Contents", packed)
        components = contents.components
        headers = _headers(contents)
    if len(components) > limits.components:
        raise MessageTooLargeError(
            f"a message of {len(components)} components is over the peer's limit of "
            f"{limits.components}: send several"
        )
    descriptors = inline = 0
    blocks: list[Block | None] = []
    try:
        for component in components:
            block = None
            if isinstance(component, bytes | memoryview):
                block = link.lending.lend(component)
                if block is None:
                    inline += memoryview(component).nbytes
            elif isinstance(component, Descriptor):
                component.fileno()  # raises where it is closed
                descriptors += 1
            elif isinstance(component, RemotePort):
                component.prepare_to_travel()
            elif not isinstance(component, Port):
                raise TypeError(f"{component!r} cannot travel to another process")
            blocks.append(block)
        if descriptors and not link.carries_descriptors:
            raise TypeError("this link leads to another host: a Descriptor cannot travel there")
        if descriptors > limits.descriptors:
            raise MessageTooLargeError(
                f"a message with {descriptors} descriptors is over the peer's limit of "
                f"{limits.descriptors}: send several"
            )
        if inline > limits.message:
            raise MessageTooLargeError(
                f"a message of {inline} bytes is over the peer's limit of {limits.message}: send "
                "it in pieces, or raise limits.message there"
            )
        if isinstance(reply_port, RemotePort):
            reply_port.prepare_to_travel()
    except BaseException:
        give_back(link, blocks)
        raise
    once = reply_port if type(reply_port) is not ReplyPort else None
    return Prepared(components, tuple(blocks), once, headers)


def _headers(contents: Contents) -> bytes:
    if not contents.headers:
        return b""
    headers = json.dumps(dict(contents.headers)).encode()
    if len(headers) > MAX_HEADERS:
        raise MessageTooLargeError(
            f"{len(headers)} bytes of headers are over the limit of {MAX_HEADERS}: let hooks give "
            "a message less to carry"
        )
    return headers


def give_back(link: Link, blocks: tuple[Block | None, ...] | list[Block | None]) -> None:
    """The message was not sent: what was lent for it is here again."""
    for block in blocks:
        if block is not None:
            link.lending.unlend(block)


def encode(  # noqa: PLR0917 - the fields of a frame, in their order
    link: Link, kind: int, target: int, msgid: int, once: int, prepared: Prepared
) -> tuple[bytes, list[int]]:
    """The frame, and the descriptors that go with it. Records the rights; under the link's lock."""
    entries: list[Entry] = []
    data: list[bytes] = []
    descriptors: list[int] = []
    if prepared.reply_port is not None:
        entries.append(_right(link, prepared.reply_port))
    for component, block in zip(prepared.components, prepared.blocks, strict=True):
        if block is not None:
            link.lending.announce(block.segment)
            entries.append(Entry(Part.OUT_OF_LINE, block.segment.id, block.offset, block.length))
        elif isinstance(component, bytes | memoryview):
            inline = bytes(component)
            entries.append(Entry(Part.DATA, 0, 0, len(inline)))
            data.append(inline)
        elif isinstance(component, Descriptor):
            entries.append(Entry(Part.DESCRIPTOR, 0, 0, 0))
            descriptors.append(component.fileno())
        else:
            assert isinstance(component, Port), "prepare saw to it"
            entries.append(_right(link, component))
    flags = 0 if prepared.reply_port is None else REPLY_PORT
    if prepared.headers:
        flags |= HEADERS
        entries.append(Entry(Part.DATA, 0, 0, len(prepared.headers)))
        data.append(prepared.headers)
    return message(kind, target, msgid, once, entries, data, flags), descriptors


def _right(link: Link, port: Port) -> Entry:
    if not port.is_valid:
        return Entry(Part.DEAD, 0, 0, 0)
    if isinstance(port, ReplyPort):
        moved = ReplyPort(port._answer)
        port.used = True
        return Entry(Part.ONCE, 0, link.table.expect(moved), 0)
    if isinstance(port, RemotePort):
        reached = port._reach()
        number = reached.number_on(link)
        if number is not None:
            return Entry(Part.YOURS, 0, number, 0)
        port = reached.local or port
    return link.table.export(port)


def resolve(link: Link, parts: list[bytes | Entry], flags: int) -> tuple[Packed, Port | None]:
    """What a message's frame stands for, and the port to answer to.

    Raises:
        ProtocolError: a part names what this side never gave out, or what did not come along.
    """
    found = [part if isinstance(part, bytes) else _component(link, part) for part in parts]
    headers = _read_headers(found) if flags & HEADERS else None
    reply_port: Port | None = None
    if flags & REPLY_PORT:
        first = found.pop(0) if found else None
        if not isinstance(first, Port):
            raise ProtocolError("a message's reply port is the first of its components, and a port")
        reply_port = first
    components = tuple(found)
    return (components if headers is None else Contents(components, headers=headers)), reply_port


def _read_headers(found: list[Component]) -> dict[str, str]:
    data = found.pop() if found else None
    if not isinstance(data, bytes) or len(data) > MAX_HEADERS:
        raise ProtocolError(f"a message's headers are data, {MAX_HEADERS} bytes at most")
    try:
        headers = json.loads(data.decode())
        # What joins is text. With lone surrogates whoever reads it would stumble.
        "".join([*headers, *headers.values()]).encode()
    except (AttributeError, RecursionError, TypeError, ValueError):
        raise ProtocolError("a message's headers are a JSON object of strings") from None
    return cast("dict[str, str]", headers)


def _component(link: Link, entry: Entry) -> Component:
    if entry.part == Part.MINE:
        return link.table.import_right(entry.b, entry.a, entry.c)
    if entry.part == Part.YOURS:
        return link.table.exported(entry.b)
    if entry.part == Part.ONCE:
        return link.table.reply_port(entry.b)
    if entry.part == Part.DEAD:
        return dead_port()
    if entry.part == Part.DESCRIPTOR:
        return Descriptor.adopt(link.incoming.claim_descriptor())
    return link.lending.borrow(entry.a, entry.b, entry.c)


class _Ended:
    """The right of a port that had ended when it was sent."""

    is_alive = False
    is_resolved = True

    def resolve(self) -> Reached:
        """Never.

        Raises:
            InvalidPortError: always.
        """
        raise InvalidPortError("the port had ended before it was sent here")

    def watch(self, handle: RemotePort) -> bool:
        """False: the end has come."""
        return False


def dead_port() -> RemotePort:
    """A port that is invalid from the start."""
    return RemotePort(_Ended())
