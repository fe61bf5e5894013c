"""Transports by scheme, found through the entry points ``portkit.transports``.

A transport is loaded when its scheme is first used, and only then.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

from portkit.errors import TransportError

if TYPE_CHECKING:
    from portkit.address import Address
    from portkit.port import Port

GROUP = "portkit.transports"

_BUILT_IN = {
    "mach": "portkit_transports.mach:transport",
    "message": "portkit_transports.message:transport",
    "socket": "portkit_transports.socket:transport",
}
"""For where there is no metadata to find entry points in, such as a zipapp."""

OFFERED = {
    "Backoff": "socket",
    "ConnectionEvent": "socket",
    "MachPort": "mach",
    "MessagePort": "message",
    "PreSharedKey": "socket",
    "SocketPort": "socket",
    "TLSConfig": "socket",
}
"""What ``portkit`` offers under its own name, and the scheme of the transport that has it."""


class Transport(Protocol):
    """What an entry point names."""

    port_class: type[Port]
    """The class of the ports that :meth:`open` makes."""

    def open(self, address: Address, delegate: Any = None, **options: Any) -> Port:
        """Make a local port at the address."""
        ...

    def connect(self, address: Address, **options: Any) -> Port:
        """Make a remote port that sends to the address; does not wait for the peer."""
        ...


def schemes() -> list[str]:
    """The schemes that there are transports for."""
    return sorted(_found())


@cache
def transport(scheme: str) -> Transport:
    """The transport of that scheme.

    Raises:
        TransportError: there is none, or it cannot be loaded.
    """
    point = _entry_point(scheme)
    try:
        loaded: Transport = point.load()
    except Exception as error:
        raise TransportError(
            f"the transport {scheme!r} ({point.value}) cannot be loaded: {error!r}"
        ) from error
    missing = [part for part in ("port_class", "open", "connect") if not hasattr(loaded, part)]
    if missing:
        raise TransportError(
            f"the transport {scheme!r} ({point.value}) is not one: it has no "
            f"{' and no '.join(missing)}; see portkit.registry.Transport"
        )
    return loaded


@cache
def _entry_point(scheme: str) -> EntryPoint:
    """Kept: to look through all installed packages takes milliseconds."""
    found = _found()
    if scheme not in found:
        close = difflib.get_close_matches(scheme, found, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "no installed package brings one."
        raise TransportError(
            f"there is no transport {scheme!r}: {hint} Known: {', '.join(sorted(found))}"
        )
    return found[scheme]


def _found() -> dict[str, EntryPoint]:
    built_in = [EntryPoint(name, value, GROUP) for name, value in _BUILT_IN.items()]
    return {point.name: point for point in [*built_in, *entry_points(group=GROUP)]}


def offered(name: str) -> Any:
    """What has a name of :data:`OFFERED`, its transport loaded for it."""
    scheme = OFFERED[name]
    transport(scheme)  # whose errors say more
    return getattr(import_module(_entry_point(scheme).module), name)


def open_port(address: str | Address, delegate: Any = None, **options: Any) -> Port:
    """A new local port at an address.

    Args:
        address: ``mach:`` and what other transports understand.
        delegate: what handles arriving messages.
        options: the transport's own, as of its port class.

    Raises:
        ValueError: not an address.
        TransportError: no such transport, or it cannot do that.
    """
    parsed = _parse(address)
    return transport(parsed.scheme).open(parsed, delegate, **options)


def connect_port(address: str | Address, **options: Any) -> Port:
    """A remote port that sends to an address. Does not wait for the peer.

    Raises:
        ValueError: not an address.
        TransportError: no such transport, or nothing to connect to.
    """
    parsed = _parse(address)
    return transport(parsed.scheme).connect(parsed, **options)


def _parse(address: str | Address) -> Address:
    # pydantic takes longer to import than all the rest: only programs that use addresses pay.
    from portkit.address import Address  # noqa: PLC0415

    return Address.parse(address)
