"""Messages and what may stand in them.

A message is a number (``msgid``) and a tuple of components: data, ports and, on one host,
descriptors. Inside a process ports and ``bytes`` travel by reference; every other buffer is copied
when it is sent, so that the sender may reuse it, but for one from ``Port.allocate``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias, cast

from portkit._text import printable
from portkit.errors import InvalidPayloadError, PortError

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core.core_schema import CoreSchema
    from typing_extensions import Buffer

    from portkit.link.descriptor import Descriptor
    from portkit.port import Port, PortHandler
    from portkit.runloop.loop import RunLoop

MAX_MSGID = 0xFFFFFFFF
"""``msgid`` is an unsigned 32-bit number, as on NSPortMessage's wire."""


class ComponentObject:
    """The base of what may be a component beside data; a port is one."""

    __slots__ = ()

    _is_port: ClassVar[bool] = False
    _is_descriptor: ClassVar[bool] = False

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A field of a payload may be one: it travels as a component beside the encoded fields."""
        from portkit._field_schema import instance_schema  # noqa: PLC0415 - pydantic loads slowly

        return instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The number of the component in the message."""
        from portkit._field_schema import json_schema  # noqa: PLC0415 - as above

        return json_schema(cls.__name__)


class Body:
    """The base of what a message can mean as a whole: a typed payload, see :mod:`portkit.typed`.

    Attributes:
        msgid: that of the messages it travels in.
    """

    __slots__ = ()

    msgid: ClassVar[int] = 0

    @abstractmethod
    def _to_components(self) -> tuple[Component, ...]:
        """Encode it.

        Raises:
            InvalidPayloadError: it cannot be encoded.
        """

    @classmethod
    @abstractmethod
    def from_message(cls, message: PortMessage) -> Self:
        """The payload of that message; see :class:`portkit.typed.Payload`."""


class Sender(NamedTuple):
    """Who sent a message, as far as the link proved it; what it did not prove is empty.

    Attributes:
        pid: the process at the other end of the link, where that is on this host (the kernel's
            word).
        uid: the user it runs as.
        host: the IP address it connects from, where that is another host.
        names: of the certificate that it proved to own.
        key_id: of the pre-shared key that it proved to know.
    """

    pid: int | None = None
    uid: int | None = None
    host: str = ""
    names: tuple[str, ...] = ()
    key_id: str = ""

    def __str__(self) -> str:
        if self.pid is not None:
            return f"process {self.pid} of user {self.uid}"
        proof = [*map(printable, self.names[:1]), *([f"key {self.key_id}"] if self.key_id else [])]
        return f"{self.host} ({', '.join(proof)})" if proof else self.host


class Origin(Protocol):
    """The right on a link by which a message came."""

    @property
    def sender(self) -> Sender | None:
        """Who is at the other end, or None where nothing proves it."""
        ...

    def taken(self, packed: Packed) -> None:
        """The message was taken from the queue: its sender may send another."""


class LentBytes(bytearray):
    """A buffer within the process that is not copied when it is sent."""

    __slots__ = ()


Component: TypeAlias = bytes | memoryview | ComponentObject
"""A component as it travels and arrives; a memoryview is data that lies out of line."""
Components: TypeAlias = (
    "Buffer | ComponentObject | Body | Contents | Iterable[Buffer | ComponentObject]"
)
"""What the sending methods take: one component, an iterable of them, or a payload.

Contents are those of a message that is sent on as it is.
"""


class Contents:
    """The components of a message that has more to it than these.

    Args:
        components: what it consists of; None where ``body`` stands for them.
        body: a payload, which is encoded when somebody asks for the components. Within a process
            nobody need do so.
        headers: what hooks gave the message to carry, a trace context for one.
    """

    __slots__ = ("_components", "body", "headers")

    def __init__(
        self,
        components: tuple[Component, ...] | None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._components = components
        self.body: Body | None = body
        self.headers: Mapping[str, str] | None = headers

    @property
    def components(self) -> tuple[Component, ...]:
        """The components.

        Raises:
            InvalidPayloadError: the payload cannot be encoded.
        """
        if self._components is None:
            assert self.body is not None, "one of the two is there"
            self._components = self.body._to_components()
        return self._components


Packed: TypeAlias = "tuple[Component, ...] | Contents"
"""What a message consists of, as nobody changes it any more."""
Envelope: TypeAlias = "tuple[int, Packed, Port | None, Origin | None]"
"""A message in a mailbox: msgid, contents, the port to answer to, and where it came from."""


def unpacked(packed: Packed) -> tuple[Component, ...]:
    """The components of an envelope."""
    return packed if type(packed) is tuple else cast("Contents", packed).components


def unadorned(packed: Packed) -> tuple[Component, ...] | None:
    """The components of an envelope that has nothing beside them, else None.

    Raises:
        InvalidPayloadError: the payload cannot be encoded.
    """
    if type(packed) is tuple:
        return packed
    contents = cast("Contents", packed)
    return None if contents.headers else contents.components


def pack(components: Components) -> Packed:
    """The components as nobody changes them any more (P10); a payload as it is.

    Raises:
        TypeError: an element is neither bytes-like nor a port (P9); ``str`` is not bytes-like.
    """
    if type(components) is bytes:  # the usual case, and the quickest test
        return (components,)
    if isinstance(components, Body):
        return Contents(None, components)
    if isinstance(components, Contents):
        return components
    if isinstance(components, bytes | ComponentObject):
        return (components,)
    if isinstance(components, str):
        raise TypeError("a str is not a component; send its bytes: text.encode()")
    if isinstance(components, tuple | list):
        return tuple([_component(element) for element in components])
    try:
        return (_data(memoryview(components)),)  # type: ignore[arg-type]
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
        return _data(memoryview(element))
    except TypeError:
        raise _wrong_component(element) from None


def _data(view: memoryview) -> bytes | memoryview:
    """A copy, but for memory that is lent: an allocated buffer, or data that came out of line.

    What exports that to its views is a memoryview itself, as is never so otherwise.
    """
    kind = type(view.obj)
    return view if kind is memoryview or kind is LentBytes else bytes(view)


def _wrong_component(element: object) -> TypeError:
    if isinstance(element, str):
        return TypeError("a str is not a component; send its bytes: text.encode()")
    if isinstance(element, Body):
        name = type(element).__name__
        return TypeError(f"a {name} is a whole message, not a component: send it by itself")
    if isinstance(element, type):
        return TypeError(f"{element.__name__} is a class, not a component: send one of it")
    return TypeError(
        f"{type(element).__name__} is not a component; components are bytes-like data and ports"
    )


def msgid_of(packed: Packed, msgid: int) -> int:
    """The number of a message that is sent with ``msgid``: a payload brings its own.

    Raises:
        ValueError: it is not the one that was asked for.
    """
    if type(packed) is tuple or (body := cast("Contents", packed).body) is None:
        return msgid
    if msgid and msgid != body.msgid:
        raise ValueError(f"{type(body).__name__} travels with msgid {body.msgid}: leave msgid= out")
    return body.msgid


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


def check_reply(reply: object) -> None:
    """Raise where what an answer is to be is no type of payload.

    Raises:
        TypeError: that is so.
    """
    if not (isinstance(reply, type) and issubclass(reply, Body)):
        raise TypeError(f"reply must be a Payload class, not {reply!r}")


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

    __slots__ = ("_body", "_data", "_origin", "_packed", "msgid", "receive_port", "send_port")

    _body: type[Body] | Body
    msgid: int
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
        self._packed: Packed = pack(components)
        self.msgid = msgid_of(self._packed, msgid)
        self._origin: Origin | None = None

    @property
    def components(self) -> tuple[Component, ...]:
        """What it consists of. A payload that came by reference is encoded for it, once.

        Raises:
            InvalidPayloadError: that cannot be done.
        """
        packed = self._packed
        return packed if type(packed) is tuple else cast("Contents", packed).components

    @property
    def body(self) -> Body | None:
        """The payload, or None where nobody said of what type it is.

        Within a process it is the object that was sent. One that came over a link is decoded when
        it is first looked at, once a router (or :meth:`expect`) said what it is.

        Raises:
            InvalidPayloadError: the message is none of that type.
        """
        expected: type[Body] | Body | None = getattr(self, "_body", None)
        packed = self._packed
        if expected is None:
            return None if type(packed) is tuple else cast("Contents", packed).body
        if not isinstance(expected, type):
            return expected
        try:
            body = self._body = expected.from_message(self)
        except InvalidPayloadError as error:
            error.about = self
            raise
        return body

    def expect(self, payload: type[Body]) -> None:
        """Say what type of payload :attr:`body` is to be."""
        self._body = payload

    @property
    def headers(self) -> Mapping[str, str]:
        """What hooks on the sender's side gave it to carry, such as a trace context."""
        packed = self._packed
        headers = None if type(packed) is tuple else cast("Contents", packed).headers
        return MappingProxyType(dict(headers or {}))

    @property
    def data(self) -> bytes | None:
        """The first data component, or None where there is none.

        Data that came out of line is copied here, once; :attr:`view` does not copy it.
        """
        for component in self.components:
            if isinstance(component, bytes):
                return component
            if isinstance(component, memoryview):
                try:
                    return self._data
                except AttributeError:
                    self._data: bytes = bytes(component)
                    return self._data
        return None

    @property
    def view(self) -> memoryview | None:
        """The first data component as a read-only view, or None where there is none.

        Memory that another process lent goes back to it when the last view of it is gone.
        """
        for component in self.components:
            if isinstance(component, bytes | memoryview):
                return memoryview(component).toreadonly()
        return None

    @property
    def sender(self) -> Sender | None:
        """Who sent it, as far as its link proves that; None inside the process."""
        return None if self._origin is None else self._origin.sender

    @property
    def ports(self) -> tuple[Port, ...]:
        """The components that are ports, in their order."""
        return tuple([cast("Port", c) for c in self.components if getattr(c, "_is_port", False)])

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """The components that are open descriptors, in their order."""
        return tuple(
            [
                cast("Descriptor", component)
                for component in self.components
                if getattr(component, "_is_descriptor", False)
            ]
        )

    @property
    def is_request(self) -> bool:
        """Whether the sender waits for exactly one answer to this message."""
        return self.send_port is not None and self.send_port._answers_once

    @property
    def is_abandoned(self) -> bool:
        """Whether this is a request whose answer nobody waits for any more.

        The requester's time was over, its call was cancelled or interrupted, or it is gone. An
        answer would go nowhere (M10), so the work for it can be left.
        """
        return self.send_port is not None and self.send_port.is_abandoned

    def add_abandon_handler(self, handler: PortHandler, *, loop: RunLoop | None = None) -> None:
        """Have ``handler(send_port)`` called once if the requester gives up. Any thread.

        It is called at once if that is so already, and never once the request was answered,
        dropped or handed on: then whoever has it now is told. Else it is performed in the common
        modes of ``loop``, by default the loop of the adding thread; where that has none, the
        thread that gives up calls it, or the service thread if that is in another process.

        Raises:
            PortError: this is no request.
            TypeError: ``handler`` is not callable.
        """
        if self.send_port is None:
            raise PortError("only a request can be given up by its sender; this message is one-way")
        self.send_port.add_abandon_handler(handler, loop=loop)

    def send(self, timeout: float | None = 5.0) -> None:
        """Send to ``send_port``, with ``receive_port`` as the reply port; as ``Port.send``."""
        if self.send_port is None:
            raise PortError("this message has no send_port to go to; give it one, or port.send()")
        self.send_port.send(
            self._packed,
            msgid=self.msgid,
            reply_port=self.receive_port,
            timeout=timeout,
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
            f"{len(c)} bytes" if isinstance(c, bytes | memoryview) else repr(c)
            for c in _encoded(self._packed)
        ]
        if isinstance(self._packed, Contents) and self._packed.body is not None:
            parts.append(type(self._packed.body).__name__)  # what it says may be secret
        kind = " request" if self.is_request else ""
        return f"<PortMessage{kind} msgid={self.msgid} [{', '.join(parts)}]>"


def _encoded(packed: Packed) -> tuple[Component, ...]:
    """The components, without those of a payload: these are not encoded only to be shown."""
    if isinstance(packed, Contents):
        return () if packed.body is not None else packed.components
    return packed


def arrived(envelope: Envelope, receive_port: Port | None) -> PortMessage:
    """The message in an envelope that was taken at ``receive_port``; checks nothing again."""
    message = PortMessage.__new__(PortMessage)
    message.msgid, message._packed, message.send_port, message._origin = envelope
    message.receive_port = receive_port
    return message
