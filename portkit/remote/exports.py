"""What one side of a connection has given to the other: the objects and iterators it may call."""

from __future__ import annotations

import weakref
from contextvars import Context
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

from portkit._context import registered
from portkit.errors import InvalidPortError, PortError
from portkit.remote.export import REMOTE_MODE, Export
from portkit.remote.interface import interface_of
from portkit.remote.object_server import ObjectServer
from portkit.remote.proxy import Proxy
from portkit.remote.stream import StreamServer
from portkit.runloop.constants import COMMON_MODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from portkit.message import PortMessage
    from portkit.port import Port
    from portkit.remote.connection import Connection
    from portkit.remote.method import Result

ENDED = "the connection has ended: make another one"


class Exports:
    """The ports of the objects and iterators of one side.

    Args:
        connection: whose. It is not kept alive by this, but by what serves an object.
    """

    def __init__(self, connection: Connection) -> None:
        self._whose = weakref.ref(connection)
        self._context = registered()
        self._lock = RLock()
        self._found: dict[object, Export] = {}
        self._root: Export | None = None
        self._over = False

    @property
    def _connection(self) -> Connection:
        connection = self._whose()
        assert connection is not None, "only the connection and its objects call this"
        return connection

    def __len__(self) -> int:
        return len(self._found)

    def offer(self, root: object, interface: Any) -> Port:
        """The port of the root object."""
        with self._lock:
            port = self.reference_to(root, interface)
            self._root = self._found.get((id(root), interface))
        return port

    def reference_to(self, value: Any, protocol: Any) -> Port:
        """The port that stands for an object, or for a proxy, with the other side.

        Raises:
            PortError: the other side holds too many, or the proxy's connection has ended.
        """
        if isinstance(value, Proxy) and self._may_have(value, protocol):
            return value._port.another()
        key = (id(value), protocol)  # what is exported lives, so nothing else has its id
        with self._lock:
            export = self._found.get(key)
            handle = None if export is None else export.handle()
            if handle is None:
                server = ObjectServer(self._connection, value, interface_of(protocol))
                handle = self._add(key, server, 1024).handle()
        if handle is None:
            raise InvalidPortError(ENDED)
        return handle

    def _may_have(self, proxy: Proxy, protocol: Any) -> bool:
        """Whether the other side may have the proxy's port, by which all its methods are called.

        That is of this connection's proxies, whose objects are there; or it is no more than what
        the annotation says. Others are called by way of this side, by that alone.
        """
        methods = interface_of(protocol).methods.keys()
        return proxy._connection is self._connection or proxy._interface.methods.keys() <= methods

    def stream_of(self, iterable: Any, items: Result) -> Port:
        """The port by which the other side iterates."""
        server = StreamServer(self._connection, iterable, items)
        with self._lock:
            export = self._add(server, server, 16)
        server.end = export.invalidate
        handle = export.handle()
        if handle is None:
            raise InvalidPortError(ENDED)
        return handle

    def _add(self, key: object, serve: Callable[[PortMessage], Any], queue_limit: int) -> Export:
        connection = self._connection
        options = connection.options
        if self._over:
            raise InvalidPortError(ENDED)
        if len(self._found) >= options.max_objects:
            self._sweep()
        if len(self._found) >= options.max_objects:
            raise PortError(
                f"the other side holds {len(self._found)} objects of this one, which is the "
                "limit: have it let go of some, or raise max_objects="
            )
        modes = (COMMON_MODES,) if options.independent else (COMMON_MODES, REMOTE_MODE)
        context = Context() if self._context is None else self._context.copy()
        export: Export = context.run(
            Export, serve, connection.loop, modes, partial(self._forget, key), queue_limit
        )
        self._found[key] = export
        return export

    def _sweep(self) -> None:
        """End what is held no more, should the loop have had no time for it."""
        for export in list(self._found.values()):
            if export is not self._root:
                export.end_if_unheld()

    def _forget(self, key: object, export: Export) -> None:
        with self._lock:
            if self._found.get(key) is export:  # else the same object was exported anew
                del self._found[key]
            is_root = export is self._root
        if isinstance(key, StreamServer):
            key.close()
        if is_root:  # the caller has let go of everything, or is gone
            self._connection.abandoned()

    def end(self, *, at_once: bool) -> None:
        """End them all: at once, or when what was sent to them before has been delivered."""
        with self._lock:
            self._over = True
            exports = list(self._found.values())
        for export in exports:
            if at_once:
                export.invalidate()
            else:
                export.end_when_empty()
