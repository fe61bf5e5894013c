"""What one side of a connection has of the other: proxies and iterators."""

from __future__ import annotations

import weakref
from threading import RLock
from typing import TYPE_CHECKING, Any

from portkit.link.remote_port import RemotePort
from portkit.port import Port
from portkit.remote.export import Export, local_port
from portkit.remote.interface import interface_of
from portkit.remote.object_server import ObjectServer
from portkit.remote.proxy import Proxy, proxy_class
from portkit.remote.stream import RemoteAsyncIterator, RemoteIterator

if TYPE_CHECKING:
    from portkit.remote.connection import Connection
    from portkit.remote.method import Result


class Imports:
    """The proxies of one side: one for each object and interface, as long as anybody has it.

    Args:
        connection: whose. It is not kept alive by this, but by the proxies.
    """

    def __init__(self, connection: Connection) -> None:
        self._whose = weakref.ref(connection)
        self._lock = RLock()
        self._proxies: weakref.WeakValueDictionary[tuple[Port, Any], Proxy] = (
            weakref.WeakValueDictionary()
        )

    @property
    def _connection(self) -> Connection:
        connection = self._whose()
        assert connection is not None, "only the connection and its objects call this"
        return connection

    def __len__(self) -> int:
        return len(self._proxies)

    def object_at(self, port: Port, protocol: Any) -> Any:
        """The object that a port stands for: one of this side, or a proxy.

        Raises:
            TypeError: it stands for no object with that interface.
        """
        local = local_port(port)
        if local is not None and local.is_valid:  # else a proxy, whose calls say so
            server = local.delegate
            if not isinstance(local, Export) or not isinstance(server, ObjectServer):
                raise TypeError(f"{port!r} is of no object")
            if server.loop is self._connection.loop:
                interface_of(protocol).check(server.target)
                return server.target
            handle = local.handle()  # for another thread: through its port all the same
            if handle is None:
                raise TypeError(f"{port!r} is of no object any more")
            port = handle
        return self.proxy(port, protocol)

    def proxy(self, port: Port, protocol: Any) -> Proxy:
        """The proxy of the object at a port.

        Raises:
            TypeError: no object can be there.
        """
        if not isinstance(port, RemotePort):
            raise TypeError(f"{port!r} is of no object")
        with self._lock:
            proxy = self._proxies.get((port, protocol))
            if proxy is None:
                connection = self._connection
                kind = proxy_class(interface_of(protocol))
                proxy = kind(connection, port, connection.options.timeout)
                self._proxies[port, protocol] = proxy
            return proxy

    def stream_at(
        self, port: Port, items: Result, *, is_async: bool
    ) -> RemoteIterator | RemoteAsyncIterator:
        """The iterator that a port stands for.

        Raises:
            TypeError: none can be there.
        """
        if not isinstance(port, RemotePort):
            raise TypeError(f"{port!r} is of no iterator")
        return (RemoteAsyncIterator if is_async else RemoteIterator)(self._connection, port, items)

    def end(self) -> None:
        """Let go of all that the proxies hold; their calls fail from now on."""
        for proxy in list(self._proxies.values()):
            proxy._port.invalidate()
