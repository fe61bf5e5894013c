"""Proxies: what a program has of an object of the other side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast

from portkit._arguments import check_timeout
from portkit.remote.interface import Interface

if TYPE_CHECKING:
    from portkit.link.remote_port import RemotePort
    from portkit.remote.connection import Connection
    from portkit.remote.method import Method

T = TypeVar("T")


class Proxy:
    """The base of all proxies; their classes have a method for each of the interface.

    Equal are those of the same object and interface.
    """

    __slots__ = ("__weakref__", "_connection", "_port", "_timeout")

    _connection: Connection
    _interface: Interface
    _port: RemotePort
    _timeout: float | None

    def __init__(self, connection: Connection, port: RemotePort, timeout: float | None) -> None:
        object.__setattr__(self, "_connection", connection)
        object.__setattr__(self, "_port", port)
        object.__setattr__(self, "_timeout", timeout)

    def __getattr__(self, name: str) -> Any:
        interface = self._interface
        raise AttributeError(
            f"{interface.name} has no {name!r}; it has {', '.join(interface.methods)}"
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {self._interface.name} of the other side has methods only")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: hand it over as an argument or result")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Proxy):
            return NotImplemented
        return self._port == other._port and self._interface is other._interface

    def __hash__(self) -> int:
        return hash(self._port)

    def __repr__(self) -> str:
        return f"<proxy of a {self._interface.name} at {self._port!r}>"


_classes: dict[Any, type[Proxy]] = {}


def proxy_class(interface: Interface) -> type[Proxy]:
    """The class of the proxies for an interface."""
    found = _classes.get(interface.protocol)
    if found is None:
        found = _classes[interface.protocol] = _make_class(interface)
    return found


def _make_class(interface: Interface) -> type[Proxy]:
    members: dict[str, Any] = {
        name: _remote_method(method) for name, method in interface.methods.items()
    }
    members |= {"_interface": interface, "__slots__": (), "__doc__": interface.protocol.__doc__}
    return type(f"{interface.name}Proxy", (Proxy,), members)


def _remote_method(method: Method) -> Callable[..., Any]:
    async def call_async(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        return await self._connection.call_async(self._port, method, args, kwargs, self._timeout)

    def call(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        return self._connection.call(self._port, method, args, kwargs, self._timeout)

    made: Callable[..., Any] = call_async if method.is_async else call
    made.__name__ = method.name
    made.__qualname__ = method.full_name
    return made


def with_timeout(proxy: T, timeout: float | None) -> T:
    """A proxy of the same object whose calls have that time-out.

    Args:
        proxy: any.
        timeout: seconds for a call to be accepted, and again for its answer; None is for ever.
            Iterators that come by it have the connection's.

    Raises:
        TypeError: it is no proxy, or the time-out is no number.
    """
    check_timeout(timeout)
    if not isinstance(proxy, Proxy):
        raise TypeError(f"expected a proxy, not {proxy!r}")
    return cast("T", type(proxy)(proxy._connection, proxy._port, timeout))
