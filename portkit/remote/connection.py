"""A connection: two sides that call each other's objects (NSConnection)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, cast

from portkit import _fork
from portkit._context import detached
from portkit._handlers import Handler
from portkit._report import logger
from portkit.errors import InvalidPayloadError, InvalidPortError, PortError
from portkit.link.remote_port import RemotePort
from portkit.message import Component
from portkit.notifications import NotificationCenter
from portkit.port import Port, ReplyPort
from portkit.remote import failure
from portkit.remote.calling import Serving, current_call
from portkit.remote.exchange import Coming, Leaving
from portkit.remote.export import REMOTE_MODE
from portkit.remote.exports import ENDED, Exports
from portkit.remote.imports import Imports
from portkit.remote.interface import interface_of
from portkit.remote.messages import Greeting, Kind
from portkit.remote.options import Counts, OptionArguments, Options, Statistics
from portkit.runloop.loop import RunLoop

if TYPE_CHECKING:
    from types import TracebackType

    from portkit.message import PortMessage, Sender
    from portkit.remote.method import Method
    from portkit.remote.service import Service

I = TypeVar("I")  # noqa: E741 - an interface
Authenticate = Callable[["Sender | None", bytes], bool]
"""Whether whoever sends these credentials may call; asked before anything else."""


CONNECTION_DID_INITIALIZE: Final = "ConnectionDidInitialize"
"""Posted to the default notification center once when a connection was made: its sender (D1)."""
CONNECTION_DID_DIE: Final = "ConnectionDidDie"
"""Posted to the default notification center once when a connection has ended: its sender (D6).

In the call that ended it, or on the connection's run loop when the other side has.
"""


class Connection:
    """One side of a connection; made by :meth:`to`, or by a :class:`Service` for each caller.

    Objects of this side are served on one run loop. A call that is made on its thread serves them
    while it waits, so that the other side can call back; on other threads it just waits.
    """

    def __init__(self, loop: RunLoop, options: Options, door: Port | None = None) -> None:
        """For :meth:`to` and :class:`Service`; not for users."""
        options.check()
        self.loop: RunLoop = loop
        self.options: Options = options
        self.counts: Counts = Counts()
        self.sender: Sender | None = None
        self._door = door
        self._root: Port | None = None
        self._lock = RLock()
        self._exports = Exports(self)
        self._imports = Imports(self)
        self._handlers: list[Handler] = []
        self.awaited: weakref.WeakSet[Serving] = weakref.WeakSet()
        self._ended = False
        self._generation = _fork.generation

    @classmethod
    def to(
        cls,
        port: Port,
        *,
        credentials: bytes = b"",
        loop: RunLoop | None = None,
        **options: Unpack[OptionArguments],
    ) -> Connection:
        """A connection to what is served at a port. Nothing is sent before :meth:`root`.

        Args:
            port: where a :class:`Service` is, of any transport.
            credentials: what the service asks for, if it does.
            loop: serves the objects that are handed to the other side; by default the run loop
                of the calling thread.
            options: of :class:`Options`.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        if not isinstance(port, Port):
            raise TypeError(f"connect to a port, not to {port!r}")
        connection = cls(loop or RunLoop.current(), Options(**options), port)
        connection._credentials = bytes(memoryview(credentials))
        connection.announce()
        return connection

    def announce(self) -> None:
        """It was made; for whoever makes it."""
        NotificationCenter.default().post(CONNECTION_DID_INITIALIZE, self)

    @classmethod
    def serve(
        cls,
        port: Port,
        root: object,
        interface: Any,
        *,
        authenticate: Authenticate | None = None,
        loop: RunLoop | None = None,
        max_connections: int = 1024,
        **options: Unpack[OptionArguments],
    ) -> Service:
        """Let others call an object; see :class:`Service`, and :class:`Options`."""
        from portkit.remote.service import Service  # noqa: PLC0415 - it makes connections

        return Service(
            port,
            root,
            interface,
            authenticate=authenticate,
            loop=loop,
            max_connections=max_connections,
            options=Options(**options),
        )

    _credentials = b""

    @property
    def is_valid(self) -> bool:
        """Whether calls can be made. False for ever once False."""
        return not self._ended

    def root(self, interface: Callable[..., I]) -> I:
        """A proxy for the root object of the other side.

        Args:
            interface: what of it can be called: a protocol class. Its type is not given as
                ``type[I]``, for which mypy takes no protocol class.

        Raises:
            AuthenticationError: the other side does not know the credentials.
            PortError: as :meth:`portkit.Port.request`.
        """
        protocol = cast("type[Any]", interface)
        interface_of(protocol)
        self._check_alive()
        root = self._root or self._connect()
        return cast("I", self._imports.proxy(root, protocol))

    def _connect(self) -> Port:
        """Be let in at the door; the port of the root object."""
        if self._door is None:
            raise PortError("only the side that connected asks for the root object")
        greeting = Greeting.model_construct(credentials=self._credentials).model_dump_json()
        reply = self.ask(self._door, greeting.encode(), Kind.HELLO)
        root = reply.ports[0] if reply.ports else None
        if reply.msgid != Kind.RESULT or not isinstance(root, RemotePort):
            raise InvalidPayloadError(f"{self._door!r} serves no object: {reply!r}")
        with self._lock:
            self._check_alive()
            if self._root is not None:  # another thread was first
                return self._root
            self._root = root
        detached(root.add_invalidation_handler, _Died(self), loop=self.loop)
        return root

    # Calls to the other side.

    def call(
        self,
        port: Port,
        method: Method,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,
    ) -> Any:
        """Call a method of the object at a port; for proxies."""
        components = self._encode(method, args, kwargs)
        if method.is_oneway:
            port.send(components, msgid=Kind.CALL, timeout=timeout)
            return None
        reply = port.request(
            components,
            msgid=Kind.CALL,
            send_timeout=timeout,
            reply_timeout=timeout,
            reply_mode=self._reply_mode(),
        )
        return self._result(method, reply)

    async def call_async(
        self,
        port: Port,
        method: Method,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,  # noqa: ASYNC109 - as everywhere in portkit
    ) -> Any:
        """As :meth:`call`, for methods that are ``async`` in the interface."""
        from portkit import aio  # noqa: PLC0415 - it needs anyio, which is an extra

        components = self._encode(method, args, kwargs)
        if method.is_oneway:
            await aio.send(port, components, msgid=Kind.CALL, timeout=timeout)
            return None
        reply = await aio.request(
            port, components, msgid=Kind.CALL, send_timeout=timeout, reply_timeout=timeout
        )
        return self._result(method, reply)

    def ask(self, port: Port, data: bytes, kind: Kind) -> PortMessage:
        """Send any other request of a connection; for iterators."""
        self._check_alive()
        timeout = self.options.timeout
        return port.request(
            data,
            msgid=kind,
            send_timeout=timeout,
            reply_timeout=timeout,
            reply_mode=self._reply_mode(),
        )

    async def ask_async(self, port: Port, data: bytes, kind: Kind) -> PortMessage:
        """As :meth:`ask`."""
        from portkit import aio  # noqa: PLC0415 - as above

        self._check_alive()
        timeout = self.options.timeout
        reply: PortMessage = await aio.request(
            port, data, msgid=kind, send_timeout=timeout, reply_timeout=timeout
        )
        return reply

    def _encode(
        self, method: Method, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Component, ...]:
        self._check_alive()
        call = current_call()
        depth = 1 if call is None else call.depth + 1
        self.check_depth(depth, method)
        self.counts.made += 1
        given = method.bind(args, kwargs)
        leaving = Leaving(self)
        try:
            data = method.arguments.encode(given, leaving)
        except InvalidPayloadError as error:
            raise InvalidPayloadError(f"{method.full_name}: {error}") from None
        # Head and arguments are one component: a message of one takes the short way onto a link.
        return (b"%b %d\n%b" % (method.head, depth, data), *leaving)

    def _result(self, method: Method, reply: PortMessage) -> Any:
        if reply.msgid == Kind.FAILURE:
            raise failure.to_raise(reply.data, method.raises)
        components = reply.components
        data = components[0] if components else None
        if reply.msgid != Kind.RESULT or not isinstance(data, (bytes, memoryview)):
            raise InvalidPayloadError(f"{method.full_name} was answered by {reply!r}")
        try:
            return method.result.decode(data, Coming.by(self, components))
        except InvalidPayloadError as error:
            raise InvalidPayloadError(f"what {method.full_name} returned: {error}") from None

    def _reply_mode(self) -> str | None:
        """The mode to wait in, where there is something to serve in it on this thread."""
        if self.options.independent or self.loop.ident != get_ident():
            return None
        if not self.loop._has_items(REMOTE_MODE):
            return None
        # Callers that are served while others wait stand on each other on the stack, which ends.
        nested, activation = 0, self.loop._activation
        while activation is not None:
            nested += activation.mode.name == REMOTE_MODE
            activation = activation.outer
        return REMOTE_MODE if nested < self.options.max_depth else None

    def check_depth(self, depth: int, method: Method) -> None:
        """Raise where calls are nested too deep.

        Raises:
            RecursionError: they are.
        """
        if depth > self.options.max_depth:
            raise RecursionError(
                f"{method.full_name} is call {depth} within calls of the two sides, and the limit "
                f"is {self.options.max_depth}: let them call each other less, or raise max_depth="
            )

    # Serving.

    def refuse(self, message: PortMessage, error: InvalidPayloadError) -> None:
        """The other side asks for what does not fit."""
        self.counts.refused += 1
        if isinstance(message.send_port, ReplyPort):
            message.send_port.fail(InvalidPayloadError(str(error)))
        else:
            logger.warning("a call from %s is ignored: %s", message.sender or "here", error)

    # Its end.

    def invalidate(self) -> None:
        """End the connection: nothing is called any more, either way (D6). Idempotent.

        Calls that wait meanwhile get their answers, or what has become of them.
        """
        self._die(at_once=True)

    def add_invalidation_handler(
        self, handler: Callable[[Connection], object], *, loop: RunLoop | None = None
    ) -> None:
        """Have ``handler(connection)`` called once when the connection has ended, or the peer has.

        Where, is as for :meth:`portkit.Port.add_invalidation_handler`. See also
        :data:`portkit.remote.CONNECTION_DID_DIE`.
        """
        record = Handler(handler, loop)
        with self._lock:
            if not self._ended:
                self._handlers.append(record)
                return
        record.notify(cast("Any", self))

    def statistics(self) -> Statistics:
        """What it has done so far, and what it holds."""
        counts = self.counts
        return Statistics(
            counts.made,
            counts.served,
            counts.failed,
            counts.refused,
            len(self._exports),
            len(self._imports),
        )

    def abandoned(self) -> None:
        """Nobody holds the root object any more: the other side has gone, or is done.

        What it sent before is still delivered.
        """
        self._die(at_once=False)

    def _die(self, *, at_once: bool) -> None:
        if self._generation != _fork.generation:
            return  # all of it is the parent's; so may be who holds the lock
        with self._lock:
            if self._ended:
                return
            self._ended = True
            handlers, self._handlers = self._handlers, []
            root, self._root = self._root, None
        self._exports.end(at_once=at_once)
        self._imports.end()
        if root is not None:
            root.invalidate()
        for handler in handlers:
            handler.notify(cast("Any", self))
        NotificationCenter.default().post(CONNECTION_DID_DIE, self)

    def _check_alive(self) -> None:
        if self._ended:
            raise InvalidPortError(ENDED)
        if self._generation != _fork.generation:
            raise InvalidPortError(
                "the connection was made before this process was forked: make another one"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.invalidate()

    def __repr__(self) -> str:
        state = "" if self.is_valid else " invalid"
        return f"<Connection{state} {self._door or self.sender or ''}>"


class _Died:
    """Tells a connection that the other side is gone, without keeping it alive."""

    def __init__(self, connection: Connection) -> None:
        self._connection = weakref.ref(connection)

    def __call__(self, port: Port) -> None:
        connection = self._connection()
        if connection is not None:
            connection._die(at_once=True)
