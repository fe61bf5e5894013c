"""A connection: two sides that call each other's objects (NSConnection)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine, Mapping
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast

from portkit._arguments import check_timeout
from portkit._handlers import Handler
from portkit._report import logger
from portkit.errors import InvalidPayloadError, InvalidPortError, PortError
from portkit.message import Component
from portkit.port import Port, ReplyPort
from portkit.remote import failure
from portkit.remote.calling import current_call
from portkit.remote.exchange import Coming, Leaving
from portkit.remote.export import REMOTE_MODE, Export, local_port
from portkit.remote.interface import interface_of
from portkit.remote.messages import Greeting, Kind
from portkit.remote.object_server import ObjectServer
from portkit.remote.proxy import Proxy, proxy_class
from portkit.remote.stream import RemoteAsyncIterator, RemoteIterator, StreamServer
from portkit.runloop.constants import COMMON_MODES
from portkit.runloop.loop import RunLoop

if TYPE_CHECKING:
    from types import TracebackType

    from portkit.message import PortMessage, Sender
    from portkit.remote.method import Method, Result
    from portkit.remote.service import Service

I = TypeVar("I")  # noqa: E741 - an interface
Authenticate = Callable[["Sender | None", bytes], bool]
"""Whether whoever sends these credentials may call; asked before anything else."""


class Options(NamedTuple):
    """How a connection behaves.

    Attributes:
        timeout: seconds for a call to be accepted, and again for its answer; None is for ever.
        independent: while a call waits, serve nothing: unrelated calls are queued until the
            outermost conversation is over, and callbacks during a call wait for ever (D7).
        max_objects: how many objects and iterators of this side the other may hold.
        max_depth: how deep calls of the two sides may be nested.
        tracebacks: tell the other side where an exception was raised.
    """

    timeout: float | None = 5.0
    independent: bool = False
    max_objects: int = 10_000
    max_depth: int = 32
    tracebacks: bool = True


class Counts:
    """What a connection has done so far.

    Attributes:
        made: calls to the other side.
        served: calls from the other side.
        failed: of these, those that raised.
        refused: of these, those that did not fit the interface.
    """

    __slots__ = ("failed", "made", "refused", "served")

    def __init__(self) -> None:
        self.made: int = 0
        self.served: int = 0
        self.failed: int = 0
        self.refused: int = 0


class Statistics(NamedTuple):
    """A snapshot of a connection (D14); see :class:`Counts`.

    Attributes:
        objects: how many of this side the other holds.
        proxies: how many this side holds.
    """

    made: int
    served: int
    failed: int
    refused: int
    objects: int
    proxies: int


class Connection:
    """One side of a connection; made by :meth:`to`, or by a :class:`Service` for each caller.

    Objects of this side are served on one run loop. A call that is made on its thread serves them
    while it waits, so that the other side can call back; on other threads it just waits.
    """

    def __init__(self, loop: RunLoop, options: Options, door: Port | None = None) -> None:
        """For :meth:`to` and :class:`Service`; not for users."""
        check_timeout(options.timeout)
        self.loop: RunLoop = loop
        self.options: Options = options
        self.counts: Counts = Counts()
        self.sender: Sender | None = None
        self._door = door
        self._root: Port | None = None
        self._offered: tuple[int, type[Any]] | None = None
        self._lock = RLock()
        self._exports: dict[object, Export] = {}
        self._proxies: weakref.WeakValueDictionary[tuple[Port, type[Any]], Proxy] = (
            weakref.WeakValueDictionary()
        )
        self._handlers: list[Handler] = []
        self._ended = False

    @classmethod
    def to(
        cls, port: Port, *, credentials: bytes = b"", loop: RunLoop | None = None, **options: Any
    ) -> Connection:
        """A connection to what is served at a port. Nothing is sent before :meth:`root`.

        Args:
            port: where a :class:`Service` is, of any transport.
            credentials: what the service asks for, if it does.
            loop: serves the objects that are handed to the other side; by default the run loop
                of the calling thread.
            options: of :class:`Options`.
        """
        connection = cls(loop or RunLoop.current(), Options(**options), port)
        connection._credentials = credentials
        return connection

    @classmethod
    def serve(
        cls,
        port: Port,
        root: object,
        interface: type[Any],
        *,
        authenticate: Authenticate | None = None,
        loop: RunLoop | None = None,
        max_connections: int = 1024,
        **options: Any,
    ) -> Service:
        """Let others call an object; see :class:`Service`."""
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
        described = interface_of(protocol)
        root = self._root
        if root is None:
            if self._door is None:
                raise PortError("only the side that connected asks for the root object")
            greeting = Greeting.model_construct(
                interface=described.name, credentials=self._credentials
            )
            data = greeting.model_dump_json()
            reply = self.ask(self._door, data.encode(), Kind.HELLO)
            if reply.msgid != Kind.RESULT or not reply.ports:
                raise InvalidPayloadError(f"{self._door!r} serves no object: {reply!r}")
            root = self._root = reply.ports[0]
            root.add_invalidation_handler(_Died(self), loop=self.loop)
        return cast("I", self._proxy(root, protocol))

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
        leaving = Leaving(self)
        given = method.bind(args, kwargs)
        try:
            data = method.arguments.encode(given, leaving)
        except InvalidPayloadError as error:
            raise InvalidPayloadError(f"{method.full_name}: {error}") from None
        # Head and arguments are one component: a message of one takes the short way onto a link.
        return (b"%b %d\n%b" % (method.head, depth, data), *leaving)

    def _result(self, method: Method, reply: PortMessage) -> Any:
        if reply.msgid == Kind.FAILURE:
            raise failure.to_raise(reply.data, method.raises)
        data = reply.view
        if reply.msgid != Kind.RESULT or data is None:
            raise InvalidPayloadError(f"{method.full_name} was answered by {reply!r}")
        try:
            return method.result.decode(data, Coming.by(self, reply.components))
        except InvalidPayloadError as error:
            raise InvalidPayloadError(f"what {method.full_name} returned: {error}") from None

    def _reply_mode(self) -> str | None:
        """The mode to wait in, where there is something to serve in it on this thread."""
        if self.options.independent or self.loop.ident != get_ident():
            return None
        return REMOTE_MODE if self.loop._has_items(REMOTE_MODE) else None

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

    # References and streams.

    def offer(self, root: object, interface: type[Any]) -> Port:
        """The port of the root object; the connection lasts until nobody holds it any more."""
        self._offered = (id(root), interface)
        return self.reference_to(root, interface)

    def reference_to(self, value: Any, protocol: type[Any]) -> Port:
        """The port that stands for an object, or for a proxy, with the other side."""
        if isinstance(value, Proxy):
            port: Port = value._port
            return port
        key = (id(value), protocol)
        while True:
            with self._lock:
                export = self._exports.get(key)
                if export is None:
                    server = ObjectServer(self, value, interface_of(protocol))
                    export = self._export(key, server, 1024)
                handle = export.handle()
            if handle is not None:
                return handle
            self._exports.pop(key, None)

    def object_at(self, port: Port, protocol: type[Any]) -> Any:
        """The object that a port stands for: one of this side, or a proxy.

        Raises:
            TypeError: it stands for no object with that interface.
        """
        local = local_port(port)
        if local is None:
            return self._proxy(port, protocol)
        server = local.delegate
        if not isinstance(server, ObjectServer):
            raise TypeError(f"{port!r} is of no object")
        interface_of(protocol).check(server.target)
        if server.loop is self.loop:
            return server.target
        return self._proxy(port, protocol)

    def stream_of(self, iterable: Any, items: Result) -> Port:
        """The port by which the other side iterates."""
        server = StreamServer(self, iterable, items)
        with self._lock:
            export = self._export(server, server, 16)
        server.end = export.end
        handle = export.handle()
        assert handle is not None, "it was made here, and nobody else knows it"
        return handle

    def stream_at(
        self, port: Port, items: Result, *, is_async: bool
    ) -> RemoteIterator | RemoteAsyncIterator:
        """The iterator that a port stands for."""
        return (RemoteAsyncIterator if is_async else RemoteIterator)(self, port, items)

    def _export(self, key: object, serve: Callable[[PortMessage], Any], queue_limit: int) -> Export:
        self._check_alive()
        if len(self._exports) >= self.options.max_objects:
            raise PortError(
                f"the other side holds {len(self._exports)} objects of this one, which is the "
                "limit: have it let go of some, or raise max_objects="
            )
        modes = (COMMON_MODES,) if self.options.independent else (COMMON_MODES, REMOTE_MODE)
        export = Export(serve, self.loop, modes, lambda: self._forget(key), queue_limit)
        self._exports[key] = export
        return export

    def _forget(self, key: object) -> None:
        self._exports.pop(key, None)
        if isinstance(key, StreamServer):
            key.close()
        if key == self._offered:  # the caller has let go of everything, or is gone
            self._die()

    def _proxy(self, port: Port, protocol: type[Any]) -> Proxy:
        with self._lock:
            proxy = self._proxies.get((port, protocol))
            if proxy is None:
                proxy = proxy_class(interface_of(protocol))(self, port, self.options.timeout)
                self._proxies[port, protocol] = proxy
            return proxy

    # Serving.

    def refuse(self, message: PortMessage, error: InvalidPayloadError) -> None:
        """The other side asks for what does not fit."""
        self.counts.refused += 1
        if isinstance(message.send_port, ReplyPort):
            message.send_port.fail(InvalidPayloadError(str(error)))
        else:
            logger.warning("a call from %s is ignored: %s", message.sender or "here", error)

    def answer_later(self, message: PortMessage, answering: Coroutine[Any, Any, None]) -> None:
        """Have the event loop of this thread see to the answer.

        Raises:
            PortError: there is none.
        """
        start = self.loop._start
        if start is None:
            answering.close()
            raise PortError(
                "an async method or iterator is served by an event loop: make the connection "
                "within portkit.aio.hosting(), or on portkit.loops.new_event_loop()"
            )
        if message.is_request:
            message.defer()
        start(message, answering)

    # Its end.

    def invalidate(self) -> None:
        """End the connection: nothing is called any more, either way (D6). Idempotent."""
        self._die()

    def add_invalidation_handler(
        self, handler: Callable[[Connection], object], *, loop: RunLoop | None = None
    ) -> None:
        """Have ``handler(connection)`` called once when the connection has ended, or the peer has.

        Where, is as for :meth:`portkit.Port.add_invalidation_handler`.
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
            len(self._proxies),
        )

    def _die(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            exports = list(self._exports.values())
            handlers, self._handlers = self._handlers, []
        for export in exports:
            export.end()
        self._root = None
        for handler in handlers:
            handler.notify(cast("Any", self))

    def _check_alive(self) -> None:
        if self._ended:
            raise InvalidPortError("the connection has ended: make another one")

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
            connection._die()
