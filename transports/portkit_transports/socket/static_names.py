"""The name server for networks without multicast: names that somebody has written down."""

from __future__ import annotations

import os
import socket as sockets
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Self
from weakref import ref

from portkit._arguments import check_timeout
from portkit.address import Address
from portkit.errors import (
    AuthenticationError,
    InvalidPortError,
    NameInUseError,
    NameNotFoundError,
    ReceiveTimeoutError,
    TransportError,
)
from portkit.names import NameServer, check_name
from portkit.port import Port
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.names_file import (
    FixedNames,
    NamesFile,
    Place,
    Source,
    split_names,
)
from portkit_transports.socket.port import SocketPort
from portkit_transports.socket.reach import Reach
from portkit_transports.socket.shared_key import PreSharedKey
from portkit_transports.socket.tls import TLSConfig
from portkit_transports.socket.transport import place_of

VARIABLE = "PORTKIT_NAMES"
"""The environment variable that names are read from."""

_LOOK = 0.25
"""Seconds between looks at a file, for a name that is to come."""


class StaticNameServer(NameServer):
    """Finds SocketPorts by names that are written down, for all hosts alike (after N3).

    Nobody is asked: a name that is written down is found whether its port lives or not, and what
    is sent to one that does not fails. Whoever registers a port has it listen where its name says.

    Args:
        names: addresses, ``socket://HOST:PORT``, by name; or where they are written.
        tls: with what ports that are found are reached; see ``SocketPort.remote``.
        key: as ``tls``.
        reconnect: as ``tls``.
        connect_timeout: as ``tls``.

    Raises:
        TypeError, ValueError: a name or an address is none, or another argument is wrong.
    """

    __slots__ = ("_reach", "_registered", "_source")

    def __init__(
        self,
        names: Mapping[str, str | Address] | Source,
        *,
        tls: TLSConfig | None = None,
        key: PreSharedKey | None = None,
        reconnect: Backoff | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        self._reach = Reach(tls, key, reconnect, connect_timeout).checked()
        self._source = names if isinstance(names, Source) else FixedNames(names, "the names given")
        self._registered: dict[str, ref[Port]] = {}

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        tls: TLSConfig | None = None,
        key: PreSharedKey | None = None,
        reconnect: Backoff | None = None,
        connect_timeout: float = 10.0,
    ) -> Self:
        """Names from a TOML file, which is read again when it has changed.

        ::

            [names]
            clock = "socket://10.0.0.5:7000"

        While a changed file cannot be read, the names before hold, and a warning is logged.

        Raises:
            TransportError: the file cannot be read.
            TypeError, ValueError: it does not hold names, or another argument is wrong.
        """
        return cls(
            NamesFile(path), tls=tls, key=key, reconnect=reconnect, connect_timeout=connect_timeout
        )

    @classmethod
    def from_environment(
        cls,
        variable: str = VARIABLE,
        *,
        tls: TLSConfig | None = None,
        key: PreSharedKey | None = None,
        reconnect: Backoff | None = None,
        connect_timeout: float = 10.0,
    ) -> Self:
        """Names from an environment variable: ``clock=socket://10.0.0.5:7000,chat=...``.

        A variable that is not set has no names. A name with a comma or ``=`` needs a file.

        Raises:
            TypeError, ValueError: it does not hold names, or another argument is wrong.
        """
        where = f"${variable}"
        names = FixedNames(split_names(os.environ.get(variable, ""), where), where)
        return cls(names, tls=tls, key=key, reconnect=reconnect, connect_timeout=connect_timeout)

    def register(self, name: str, port: Port) -> None:
        """Confirm that ``port`` is where its name says. Registering it again is no error.

        A port that listens at all addresses is at each of this host's. A host that is written
        down by name is believed to be this one: only the port number is compared.

        Raises:
            NameInUseError: the name is that of another address.
            InvalidPortError: the port is invalid.
            TransportError: it is no SocketPort of this process or does not listen, or the name is
                not written down.
        """
        check_name(name)
        if not isinstance(port, SocketPort):
            raise TransportError(
                f"{port!r} cannot be registered: make a SocketPort, in the process that receives"
            )
        address = port.address
        if not port.is_valid:
            raise InvalidPortError(f"{port!r} is invalid and takes no name: make a new one")
        if address is None:
            raise TransportError(f"{port!r} does not listen: make it with an address")
        where = self._source.where
        place = self._source.places().get(name)
        if place is None:
            raise TransportError(
                f"the name {name!r} is not in {where}, where alone this name server has names "
                f"from: write it there, with the address {address}"
            )
        if not _is_at(place, *place_of(address)):
            raise NameInUseError(
                f"{where} has the name {name!r} for {_written(place)}, and the port is at "
                f"{address}: have it listen there, or write its address"
            )
        self._registered[name] = ref(port)

    def lookup(self, name: str) -> Port:
        """As :meth:`NameServer.lookup`. The handle connects when it is first used.

        Raises:
            NameNotFoundError: the name is not written down.
        """
        place = self._source.places().get(check_name(name))
        if place is None:
            raise NameNotFoundError(
                f"the name {name!r} is not in {self._source.where}: write it there, with the "
                f"address of its port; known: {', '.join(self.names()[:20]) or 'none'}"
            )
        return self._reach.handle(*place)

    def unregister(self, name: str) -> None:
        """Take back what :meth:`register` confirmed. The name stays written down.

        Raises:
            NameNotFoundError: the name is neither registered nor written down.
            AuthenticationError: it is written down, and was not registered with this object.
        """
        registered = self._registered.pop(check_name(name), None)
        port = None if registered is None else registered()
        if port is not None and port.is_valid:
            return
        where = self._source.where
        if name in self._source.places():
            raise AuthenticationError(
                f"the name {name!r} was not registered here; it is taken back by taking it out of "
                f"{where}"
            )
        raise NameNotFoundError(f"the name {name!r} is not in {where}")

    def names(self) -> list[str]:
        """The names that are written down, sorted; whether their ports live is not known."""
        return sorted(self._source.places())

    def wait_for(self, name: str, timeout: float | None) -> Port:
        """As :meth:`lookup`, once the name is written down. Only a file can come to hold it.

        Raises:
            ReceiveTimeoutError: it was not in time, or never will be.
        """
        check_name(name)
        check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            place = self._source.places().get(name)
            if place is not None:
                return self._reach.handle(*place)
            remaining = _LOOK if deadline is None else deadline - time.monotonic()
            if remaining <= 0 or not self._source.can_change:
                break
            time.sleep(min(_LOOK, remaining))
        never = "" if self._source.can_change else ", which does not change any more"
        raise ReceiveTimeoutError(
            f"nobody wrote the name {name!r} into {self._source.where}{never}"
        )


def _written(place: Place) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"socket://{host}:{place.number}"


def _is_at(place: Place, host: str, number: int) -> bool:
    """Whether a port that listens at that host and number is found at the place."""
    if place.number != number:
        return False
    try:
        written = ip_address(place.host)
    except ValueError:
        return True  # a host's name: to look it up could take long
    listens = ip_address(host)
    if not listens.is_unspecified:
        return written == listens
    if listens.version == 4 and written.version == 6:
        return False
    family = sockets.AF_INET if written.version == 4 else sockets.AF_INET6
    with sockets.socket(family, sockets.SOCK_DGRAM) as probe:
        try:
            probe.bind((place.host, 0))
        except OSError:
            return False  # it is no address of this host
    return True
