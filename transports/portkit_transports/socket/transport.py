"""The ``socket:`` scheme."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from portkit_transports.socket.port import SocketPort

if TYPE_CHECKING:
    from portkit.address import Address
    from portkit.port import Port

_PLACE = re.compile(r"//(?:\[([^\]/]+)\]|([^:/\[\]]*)):([0-9]{1,5})")


class SocketTransport:
    """What the entry point ``socket`` names."""

    port_class = SocketPort

    def open(self, address: Address, delegate: Any = None, **options: Any) -> SocketPort:
        """A new port; ``socket:`` gives one that does not listen. Options: those of the class.

        Raises:
            ValueError: the address is none, or may not be listened at without ``tls`` or ``key``.
            NameInUseError: the port number is taken.
            TransportError: there is no such address here.
        """
        place = None if not address.target else place_of(address)
        return SocketPort(place, delegate, **options)

    def connect(self, address: Address, **options: Any) -> Port:
        """A handle to the port at the address; see ``SocketPort.remote``.

        Raises:
            ValueError: the address is none.
        """
        host, number = place_of(address)
        return SocketPort.remote(host, number, **options)


def place_of(address: Address) -> tuple[str, int]:
    """Host and port number of an address.

    Raises:
        ValueError: it has none.
    """
    found = _PLACE.fullmatch(address.target)
    if found is None:
        raise ValueError(
            f"{str(address)!r} names no host and port number: write 'socket://HOST:PORT', and an "
            "IPv6 address as in 'socket://[::1]:7000'"
        )
    return found[1] or found[2], int(found[3])


transport: SocketTransport = SocketTransport()
