"""Messages and what may stand in them.

A message is a number (``msgid``) and a tuple of components: data, as ``bytes``, and ports. Inside
a process ports and ``bytes`` travel by reference; every other buffer is copied when it is sent,
so that the sender may reuse it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, cast

from portkit.errors import PortError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

    from portkit.port import Port

MAX_MSGID = 0xFFFFFFFF
"""``msgid`` is an unsigned 32-bit number, as on NSPortMessage's wire."""


class ComponentObject:
    """The base of what may be a component beside data; a port is one."""

    __slots__ = ()

    _is_port: ClassVar[bool] = False


Component: TypeAlias = bytes | ComponentObject
"""A component as it travels and arrives."""
Components: TypeAlias = "Buffer | ComponentObject | Iterable[Buffer | ComponentObject]"
"""What the sending methods take: one component, or an iterable of them."""
Envelope: TypeAlias = "tuple[int, tuple[Component, ...], Port | None]"
"""A message in a mailbox: msgid, components, and the port to answer to."""


def pack(components: Components) -> tuple[Component, ...]:
    """The components as a tuple that nobody changes any more (P10).

    Raises:
        TypeError: an element is neither bytes-like nor a port (P9); ``str`` is not bytes-like.
    """
    if type(components) is bytes:  # the usual case, and the quickest test
        return (components,)
    if isinstance(components, bytes | ComponentObject):
        return (components,)
    if isinstance(components, str):
        raise TypeError("a str is not a component; send its bytes: text.encode()")
    if isinstance(components, tuple | list):
        return tuple([_component(element) for element in components])
    try:
        return (bytes(memoryview(components)),)  # type: ignore[arg-type]
    except TypeError:
        pass
    try:
        elements = iter(components)  # type: ignore[arg-type]
    except TypeError:
        raise _wrong_component(components) from None
    return tuple([_component(element) for element in elements])


def _component(element: Buffer | ComponentObject) -> Component:
    if type(element) is bytes or isinstance(element, bytes | ComponentObject):
        return element
    try:
        return bytes(memoryview(element))
    except TypeError:
        raise _wrong_component(element) from None


def _wrong_component(element: object) -> TypeError:
    if isinstance(element, str):
        return TypeError("a str is not a component; send its bytes: text.encode()")
    return TypeError(
        f"{type(element).__name__} is not a component; components are bytes-like data and ports"
    )


def check_envelope(msgid: object, reply_port: object) -> None:
    """Raise the error that names what is wrong with a message's number or reply port.

    Raises:
        TypeError: ``msgid`` is no int, or ``reply_port`` is neither a port nor None.
        ValueError: ``msgid`` is out of range.
    """
    if not isinstance(msgid, int):
        raise TypeError(f"msgid must be an int, not {type(msgid).__name__}")
    if not 0 <= msgid <= MAX_MSGID:
        raise ValueError(f"msgid must be from 0 to {MAX_MSGID}, not {msgid}")
    if reply_port is not None and not isinstance(reply_port, ComponentObject):
        raise TypeError(f"the reply port must be a port, not {type(reply_port).__name__}")


class PortMessage:
    """A message to be sent, or one that arrived.

    Args:
        send_port: outgoing: the destination. Arrived: where an answer goes, or None (P8).
        receive_port: outgoing: where answers should go. Arrived: the port it arrived at (P8).
        components: one component or an iterable of them; copied into a tuple.
        msgid: what the message means, 0 to 2**32-1, by agreement of the two sides.

    Raises:
        TypeError: a component or a port is of the wrong type.
        ValueError: ``msgid`` is out of range.
    """

    __slots__ = ("components", "msgid", "receive_port", "send_port")

    msgid: int
    components: tuple[Component, ...]
    send_port: Port | None
    receive_port: Port | None

    def __init__(
        self,
        send_port: Port | None = None,
        receive_port: Port | None = None,
        components: Components = (),
        msgid: int = 0,
    ) -> None:
        check_envelope(msgid, receive_port)
        check_envelope(msgid, send_port)
        self.send_port = send_port
        self.receive_port = receive_port
        self.components = pack(components)
        self.msgid = msgid

    @property
    def data(self) -> bytes | None:
        """The first data component, or None where there is none."""
        for component in self.components:
            if isinstance(component, bytes):
                return component
        return None

    @property
    def view(self) -> memoryview | None:
        """The first data component as a read-only view, or None where there is none."""
        data = self.data
        return None if data is None else memoryview(data)

    @property
    def ports(self) -> tuple[Port, ...]:
        """The components that are ports, in their order."""
        return tuple(
            [cast("Port", c) for c in self.components if not isinstance(c, bytes) and c._is_port]
        )

    @property
    def is_request(self) -> bool:
        """Whether the sender waits for exactly one answer to this message."""
        return self.send_port is not None and self.send_port._answers_once

    def send(self, timeout: float | None = 5.0) -> None:
        """Send to ``send_port``, with ``receive_port`` as the reply port; as ``Port.send``."""
        if self.send_port is None:
            raise PortError("this message has no send_port to go to; give it one, or port.send()")
        self.send_port.send(
            self.components, msgid=self.msgid, reply_port=self.receive_port, timeout=timeout
        )

    def reply(
        self, components: Components = (), *, msgid: int = 0, timeout: float | None = 5.0
    ) -> None:
        """Answer: a request exactly once, any other message through its reply port.

        Raises:
            PortError: the message is one-way, or the request was answered or dropped before.
            SendTimeoutError: the reply port's queue had no room within ``timeout`` seconds; the
                answer to a request always has room.
        """
        if self.send_port is None:
            raise PortError("nobody waits for an answer: the message came without a reply port")
        self.send_port.send(components, msgid=msgid, timeout=timeout)

    def defer(self) -> None:
        """Keep the request open after the delegate returns: keep the message, reply later.

        Raises:
            PortError: the message is not a request, or was answered already.
        """
        if self.send_port is None:
            raise PortError("there is nothing to defer: the message came without a reply port")
        self.send_port._defer()

    def drop(self) -> None:
        """Let a request go: the requester gets ``ReplyDroppedError`` at once.

        Nothing happens where nobody waits any more.
        """
        if self.send_port is not None:
            self.send_port._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop the request if it was neither answered nor deferred."""
        if self.send_port is not None:
            self.send_port._drop(keep_deferred=exc is None)

    def __repr__(self) -> str:
        parts: list[Any] = [
            f"{len(c)} bytes" if isinstance(c, bytes) else repr(c) for c in self.components
        ]
        kind = " request" if self.is_request else ""
        return f"<PortMessage{kind} msgid={self.msgid} [{', '.join(parts)}]>"


def arrived(envelope: Envelope, receive_port: Port | None) -> PortMessage:
    """The message in an envelope that was taken at ``receive_port``; checks nothing again."""
    message = PortMessage.__new__(PortMessage)
    message.msgid, message.components, message.send_port = envelope
    message.receive_port = receive_port
    return message
