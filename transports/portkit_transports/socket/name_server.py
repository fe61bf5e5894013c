"""The name server of a network: ports find each other by DNS-SD, no process serves the names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Self
from weakref import WeakKeyDictionary, ref

from portkit import _report
from portkit._arguments import check_timeout
from portkit.errors import (
    AuthenticationError,
    InvalidPortError,
    NameInUseError,
    NameNotFoundError,
    ReceiveTimeoutError,
    TransportError,
)
from portkit.names import NameServer
from portkit.port import Port
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.port import SocketPort
from portkit_transports.socket.reach import Reach
from portkit_transports.socket.service_record import Service, label_of
from portkit_transports.socket.shared_key import PreSharedKey
from portkit_transports.socket.tls import TLSConfig
from portkit_transports.socket.transport import place_of

if TYPE_CHECKING:
    from portkit_transports.socket.dns_sd import Responder


class SocketPortNameServer(NameServer):
    """Finds SocketPorts on the local network by DNS-SD, which others call Bonjour (N4).

    Nothing but multicast has to work; where it does not, use ``StaticNameServer``. A name has at
    most 63 bytes of UTF-8 here, and as in DNS the case of its letters makes no other name of it.
    A name is gone with its port, and with this object; the name of a process that died without
    a word is found for up to ``ttl`` seconds more, and what is sent there fails.

    Anybody on the network can say that a name is theirs: who must be sure gives ``tls`` with
    ``peer_names``, or ``key``. Certificates that ``peer_names`` does not tell of have to be for the
    IP address.

    This is a context manager, and has a thread, until :meth:`close`.

    Args:
        tls: with what ports that are found are reached; see ``SocketPort.remote``.
        key: as ``tls``.
        reconnect: as ``tls``.
        connect_timeout: as ``tls``.
        interfaces: IP addresses or names of the interfaces to use; None for all.
        timeout: seconds in which the owner of a name has to answer.
        ttl: seconds for which others may believe in a name that they hear nothing of.

    Raises:
        TransportError: the library is missing, or the network cannot be used so.
        TypeError, ValueError: an argument is wrong.
    """

    __slots__ = ("_ends", "_reach", "_responder", "_services", "_timeout")

    def __init__(
        self,
        *,
        tls: TLSConfig | None = None,
        key: PreSharedKey | None = None,
        reconnect: Backoff | None = None,
        connect_timeout: float = 10.0,
        interfaces: Sequence[str] | None = None,
        timeout: float = 3.0,
        ttl: int = 120,
    ) -> None:
        self._reach = Reach(tls, key, reconnect, connect_timeout).checked()
        if isinstance(interfaces, str):
            raise TypeError(f"interfaces are several: give [{interfaces!r}]")
        check_timeout(timeout)
        if not timeout or not 0 < timeout < 3600:
            raise ValueError(f"the timeout is more than 0 and less than 3600 s, not {timeout}")
        if not 0 < ttl < 1 << 31:
            raise ValueError(f"the ttl is from 1 s to {(1 << 31) - 1} s, not {ttl}")
        from portkit_transports.socket.dns_sd import Responder  # noqa: PLC0415 - may be missing

        self._timeout = timeout
        self._services: dict[str, Service] = {}
        self._ends: WeakKeyDictionary[Port, _End] = WeakKeyDictionary()
        self._responder: Responder = Responder(interfaces, ttl)

    def register(self, name: str, port: Port) -> None:
        """As :meth:`NameServer.register`. Takes a second, in which others may say it is theirs.

        A port that listens at all addresses is offered at all of the interfaces.

        Raises:
            NameInUseError: another port, of whatever host, has the name.
            TransportError: it is no SocketPort of this process, or does not listen.
        """
        label_of(name)
        if not isinstance(port, SocketPort):
            raise TransportError(
                f"{port!r} cannot be registered: make a SocketPort, in the process that receives"
            )
        service = self._describe(name, port)
        end = self._ends.get(port)
        if end is None:
            end = _End(port, self._responder, self._services)
            self._ends[port] = end
            if not port._tell_end(end):
                raise InvalidPortError(f"{port!r} is invalid and takes no name: make a new one")
        self._responder.publish(service, partial(_lost, self._services, service))
        self._services[_key(name)] = service
        end.services.add(service)
        if not port.is_valid:  # it ended meanwhile, and knew nothing of this name
            end.notify(port)
            raise InvalidPortError(f"{port!r} became invalid while it was registered")

    def lookup(self, name: str) -> Port:
        """As :meth:`NameServer.lookup`; a name that is not known yet is asked for.

        The handle means that very port, not one that has its number later. It connects when it
        is first used.

        Raises:
            NameNotFoundError: nobody answered within ``timeout``, or it is no port.
            AuthenticationError: the port asks for ``tls`` or ``key``, which is not given here.
        """
        try:
            found = self._responder.find(name, self._timeout)
        except ValueError as error:
            label_of(name)  # if that is what is wrong
            raise NameNotFoundError(f"what has the name {name!r} is no port: {error}") from None
        if found is None:
            raise NameNotFoundError(
                f"nobody answered to the name {name!r} within {self._timeout} s: register it, or "
                "see whether multicast gets through"
            )
        return self._handle(found)

    def unregister(self, name: str) -> None:
        """As :meth:`NameServer.unregister`; what was registered with this object. Handles stay.

        Raises:
            NameNotFoundError: nobody has the name.
            AuthenticationError: it was registered elsewhere.
        """
        label_of(name)
        service = self._services.pop(_key(name), None)
        if service is not None:
            self._responder.withdraw(service)
            return
        try:
            found = self._responder.find(name, self._timeout)
        except ValueError:
            whose = "somebody's who offers no port"
        else:
            if found is None:
                raise NameNotFoundError(f"nobody has the name {name!r}")
            whose = f"that of the port {found.number} at {found.addresses[0]}"
        raise AuthenticationError(
            f"the name {name!r} is {whose}; where it was registered, it alone can be taken back"
        )

    def names(self) -> list[str]:
        """As :meth:`NameServer.names`; asks the network, if that was not done within a minute."""
        return self._responder.names(self._timeout)

    def wait_for(self, name: str, timeout: float | None) -> Port:
        """As :meth:`NameServer.wait_for`; with a ``timeout`` of 0 what is known already is found.

        Raises:
            ReceiveTimeoutError: nobody registered the name in time.
            AuthenticationError: as :meth:`lookup`.
        """
        check_timeout(timeout)
        found = self._responder.wait(name, timeout)
        if found is None:
            raise ReceiveTimeoutError(f"nobody registered the name {name!r} within {timeout} s")
        return self._handle(found)

    def close(self) -> None:
        """Take all names back and end the thread; handles stay. Idempotent; any thread."""
        self._responder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _describe(self, name: str, port: SocketPort) -> Service:
        """What is published of the port."""
        address = port.address
        if address is None:
            if not port.is_valid:
                raise InvalidPortError(f"{port!r} is invalid and takes no name: make a new one")
            raise TransportError(f"{port!r} does not listen: make it with an address")
        host, number = place_of(address)
        security = port._security
        return Service(
            name,
            port.port_id,
            self._addresses(host),
            number,
            tls=security.tls is not None,
            key=bool(security.keys),
        )

    def _addresses(self, host: str) -> tuple[str, ...]:
        parsed = ip_address(host.partition("%")[0])
        if not parsed.is_unspecified:
            return (str(parsed),)
        found = self._responder.own_addresses(v6=parsed.version == 6)
        if not found:
            raise TransportError(
                f"the interfaces of this name server have no address of the kind of {host}: give "
                "others, or have the port listen at one of theirs"
            )
        return found

    def _handle(self, found: Service) -> Port:
        reach = self._reach
        asked = [
            text
            for text, wanted, given in (
                ("tls=TLSConfig(...)", found.tls, reach.tls),
                ("key=PreSharedKey(...)", found.key, reach.key),
            )
            if wanted and given is None
        ]
        if asked:
            raise AuthenticationError(
                f"the port {found.name!r} lets in only who proves who it is: give the name server "
                f"{' and '.join(asked)}"
            )
        return reach.handle(self._responder.nearest(found), found.number, found.port_id)

    def __del__(self) -> None:
        # May run inside anything on any thread: that of the responder does the work.
        responder: Responder | None = getattr(self, "_responder", None)
        if responder is not None and not responder.is_closed:
            warnings.warn(f"{self!r} was dropped: call close()", ResourceWarning, stacklevel=2)
            responder.begin_to_close()


class _End:
    """Takes the names of a port back when it ends, or is dropped.

    Args:
        port: the port, which this does not keep.
        responder: who publishes them.
        services: those of the name server, by label.

    Attributes:
        services: what was published of this port.
    """

    __slots__ = ("_all", "_port", "_responder", "services")

    def __init__(self, port: Port, responder: Responder, services: dict[str, Service]) -> None:
        self._responder = responder
        self._all = services
        self._port = ref(port, self._dropped)
        self.services: set[Service] = set()

    def notify(self, port: Port) -> None:
        """The port was invalidated."""
        self._dropped(None)

    def _dropped(self, _: object) -> None:
        # May be a finalizer: takes no lock.
        while self.services:
            service = self.services.pop()
            if self._all.get(_key(service.name)) == service:
                self._all.pop(_key(service.name), None)
                self._responder.withdraw(service)


def _key(name: str) -> str:
    return label_of(name).lower()


def _lost(services: dict[str, Service], service: Service, text: str) -> None:
    """Another port has won the name: whoever registered it is not there to be told."""
    key = _key(service.name)
    if services.get(key) == service:
        services.pop(key, None)
    _report.log(
        {
            "message": "a port lost its name on the network",
            "exception": NameInUseError(text),
            "source": service.name,
        }
    )
