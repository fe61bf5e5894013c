"""An object that others may call: the door at which they connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from portkit._arguments import check_limit
from portkit._report import logger, report
from portkit.errors import AuthenticationError, InvalidPayloadError
from portkit.port import Port, ReplyPort
from portkit.remote.connection import Authenticate, Connection
from portkit.remote.export import REMOTE_MODE
from portkit.remote.interface import interface_of
from portkit.remote.messages import VERSION, Greeting, Kind
from portkit.remote.options import Options
from portkit.remote.protocols import name_of
from portkit.runloop.constants import COMMON_MODES
from portkit.runloop.loop import RunLoop
from portkit.typed.explain import explain

if TYPE_CHECKING:
    from types import TracebackType

    from portkit.message import PortMessage


class Service:
    """An object served at a port; each caller gets a :class:`Connection` of its own.

    Args:
        port: a local port of any transport; it is scheduled on the loop, and its delegate set.
        root: the object; :attr:`root` may be set to another at any time, for those who connect
            from then on (D4).
        interface: what of it can be called: a protocol class.
        authenticate: asked with ``message.sender`` and the caller's credentials before anything
            else; True lets the caller in.
        loop: serves all objects; by default the run loop of the calling thread.
        max_connections: how many callers there may be at once.
        options: of the connections.

    Raises:
        TypeError: ``root`` lacks a method of the interface, which may be none.
        TypeError, ValueError: ``max_connections`` or an option is wrong.

    Attributes:
        refused: how many callers were not let in.
    """

    def __init__(
        self,
        port: Port,
        root: object,
        interface: Any,
        *,
        authenticate: Authenticate | None,
        loop: RunLoop | None,
        max_connections: int,
        options: Options,
    ) -> None:
        options.check()
        self._interface = interface
        self.root = root
        self.refused: int = 0
        self._authenticate = authenticate
        self._max_connections = check_limit("max_connections", max_connections)
        self._options = options
        self._loop = loop or RunLoop.current()
        self._connections: dict[Connection, None] = {}
        self._port = port
        port.delegate = self._greet
        for mode in (COMMON_MODES,) if options.independent else (COMMON_MODES, REMOTE_MODE):
            self._loop.add_port(port, mode)

    @property
    def root(self) -> object:
        """The object that callers get."""
        return self._root

    @root.setter
    def root(self, root: object) -> None:
        interface_of(self._interface).check(root)
        self._root = root

    @property
    def port(self) -> Port:
        """Where callers connect."""
        return self._port

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those of the callers that are there now."""
        return tuple(self._connections)

    def invalidate(self) -> None:
        """End the service, its port, and all connections. Idempotent."""
        self._port.invalidate()
        for connection in self.connections:
            connection.invalidate()

    def _greet(self, message: PortMessage) -> Any:
        try:
            connection = self._admit(message)
        except (InvalidPayloadError, AuthenticationError) as error:
            self.refused += 1
            if isinstance(message.send_port, ReplyPort):
                message.send_port.fail(error)
            else:
                logger.warning("%s refuses %s: %s", self, message.sender or "a caller", error)
            return None
        root = connection._exports.offer(self._root, self._interface)
        self._connections[connection] = None
        connection.add_invalidation_handler(self._connections.pop, loop=self._loop)
        connection.announce()
        return (b"{}", root)

    def _admit(self, message: PortMessage) -> Connection:
        if message.msgid != Kind.HELLO or not message.is_request:
            raise InvalidPayloadError(
                "an object is served here: connect with portkit.remote.Connection.to(port)"
            )
        try:
            greeting = Greeting.model_validate_json(message.data or b"")
        except ValidationError as error:
            raise InvalidPayloadError(f"the greeting: {explain(error)}") from None
        if greeting.version != VERSION:
            raise InvalidPayloadError(
                f"version {greeting.version} is not spoken here, but {VERSION}: take the same "
                "release of portkit on both sides"
            )
        self._check(message, greeting.credentials)
        if len(self._connections) >= self._max_connections:
            raise AuthenticationError(
                f"{len(self._connections)} are connected, which is the limit: come again later"
            )
        connection = Connection(self._loop, self._options)
        connection.sender = message.sender
        return connection

    def _check(self, message: PortMessage, credentials: bytes) -> None:
        if self._authenticate is None:
            return
        try:
            allowed = self._authenticate(message.sender, credentials)
        except Exception as error:
            report("authenticate raised; the caller is refused", error, self)
            allowed = False
        if allowed is not True:
            raise AuthenticationError("the service does not know these credentials")

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
        return f"<Service of {name_of(self._interface)} at {self._port!r}>"
