"""Ports that other hosts reach over TCP, after NSSocketPort and CFSocket."""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket as sockets
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

from portkit import _fork
from portkit.address import Address
from portkit.errors import NameInUseError, TransportError
from portkit.link import service
from portkit.link.node import ANYONE, Node, Settings
from portkit.local_port import LocalPort
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.dialling import Destination
from portkit_transports.socket.listener import Listener
from portkit_transports.socket.racing import Option, check_options
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from portkit_transports.socket.security import Security
from portkit_transports.socket.shared_key import PreSharedKey
from portkit_transports.socket.tls import TLSConfig

SETTINGS = Settings()
"""What is allowed where nothing else is said."""
_BACKLOG = 512


class SocketPort(LocalPort):
    """A port that other hosts can send to.

    It listens at an address of its own; whoever connects there shares the connection with all
    ports that are sent over it, both ways. Without an address it does not listen, and is reached
    by those who got it in a message.

    Args:
        address: host and port number: 0 has the system pick a number; None does not listen. Any
            host but this one's loopback needs ``tls`` or ``key``.
        delegate: what handles arriving messages; see :class:`~portkit.local_port.LocalPort`.
        tls: the certificates with which both sides prove who they are.
        key: a key, or several, of which whoever connects has to prove one.
        insecure: listen where others can connect unasked, and warn of it.
        socket: a bound or listening TCP socket to use in place of ``address``; it is the port's.
        options: of the listening socket, and so of connections: level, name and value each.
        queue_limit: how many messages of one sender may lie here unread, or be on their way, before
            that sender waits. Messages a second are at most this, divided by the network's
            round-trip time: hence the default is higher than for ports within a host.
        settings: what is allowed on connections.

    Raises:
        ValueError: whoever reaches the address could connect; or an argument is wrong.
        NameInUseError: the port number is taken.
        TransportError: there is no such address here, or it may not be used.
        TypeError: an argument is of the wrong type.
    """

    __slots__ = ("_address", "_listener", "_node", "_security", "port_id")

    def __init__(
        self,
        address: tuple[str, int] | None = ("127.0.0.1", 0),
        delegate: Any = None,
        *,
        tls: TLSConfig | None = None,
        key: PreSharedKey | Sequence[PreSharedKey] | None = None,
        insecure: bool = False,
        socket: sockets.socket | None = None,
        options: Sequence[Option] = (),
        queue_limit: int = 8192,
        settings: Settings = SETTINGS,
    ) -> None:
        self._listener: Listener | None = None
        self._address: Address | None = None
        super().__init__(delegate, queue_limit=queue_limit)
        self._security = Security.of(tls, key)
        self.port_id: bytes = secrets.token_bytes(16)
        options = check_options(options)
        _check_settings(settings)
        this = weakref.ref(self)

        def find(port_id: bytes) -> LocalPort | None:
            port = this()
            return port if port is not None and port_id in (ANYONE, port.port_id) else None

        def keeps() -> bool:
            port = this()
            return port is not None and port.is_valid

        self._node = Node(settings, find=find, keeps=keeps, transport="socket")
        if socket is None and address is None:
            return
        listening = _bound(address, options) if socket is None else _adopted(socket, options)
        try:
            host, number = listening.getsockname()[:2]
            self._security.check_listening(host, insecure=insecure)
            if tls is not None:
                tls.server()  # so that wrong files are told of here, and not to those who connect
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise TransportError(f"the socket cannot listen: {error.strerror}") from error
        except BaseException:
            listening.close()
            raise
        self._address = Address(scheme="socket", target=f"//{_written(host)}:{number}")
        self._listener = Listener(listening, self._node, self._security)

    @property
    def transport(self) -> str:
        """It is "socket"."""
        return "socket"

    @property
    def address(self) -> Address | None:
        """``socket://HOST:PORT`` with the number that the system picked; None if not listening."""
        return self._address if self.is_valid else None

    @property
    def number(self) -> int:
        """The port number of the address; 0 if not listening."""
        address = self.address
        return 0 if address is None else int(address.target.rpartition(":")[2])

    @property
    def connections(self) -> int:
        """How many peers are connected now."""
        return len(self._node.links)

    @staticmethod
    def remote(
        host: str,
        port: int,
        *,
        tls: TLSConfig | None = None,
        key: PreSharedKey | None = None,
        reconnect: Backoff | None = None,
        connect_timeout: float = 10.0,
        port_id: bytes = ANYONE,
        options: Sequence[Option] = (),
        settings: Settings = SETTINGS,
    ) -> RemoteSocketPort:
        """A handle that sends to the port at an address. Does not wait, and does not connect (P14).

        The first use connects, and raises what stands in the way; later ones try again. Once the
        port was reached the handle ends with it, or with the connection; with ``reconnect`` it
        goes on. Handles got with the same arguments are equal and share a connection (P15).

        Args:
            host: a name, of which all addresses are tried, or an IP address.
            port: the number.
            tls: the certificates with which both sides prove who they are; also, whom to expect.
            key: the key that both sides have to prove.
            reconnect: connect again when the connection was lost, and how soon.
            connect_timeout: seconds for one attempt to connect, all of it.
            port_id: of the very port that is meant; by default the one that listens there.
            options: of the socket: level, name and value each.
            settings: what is allowed on the connection.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        if not isinstance(host, str):
            raise TypeError(f"the host is a str, not {type(host).__name__}")
        if not host:
            raise ValueError("name a host to connect to, or give its IP address")
        _check_number(port, least=1)
        if reconnect is not None and not isinstance(reconnect, Backoff):
            raise TypeError(f"reconnect is a portkit.Backoff, not {type(reconnect).__name__}")
        if not connect_timeout > 0:
            raise ValueError(f"connect_timeout is more than 0 seconds, not {connect_timeout}")
        if len(port_id) != len(ANYONE):
            raise ValueError(f"a port_id has {len(ANYONE)} bytes, not {len(port_id)}")
        _check_settings(settings)
        return RemoteSocketPort(
            Destination(
                host,
                port,
                port_id,
                Security.of(tls, key),
                reconnect,
                connect_timeout,
                check_options(options),
                settings,
            )
        )

    def _withdraw(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for link in self._node.links:
            link.check_needed()

    def __del__(self) -> None:
        # May run inside anything on any thread: the service thread closes the socket.
        listener = getattr(self, "_listener", None)  # missing where it was never made whole
        if listener is None or self._generation != _fork.generation:
            return
        if not self._mailbox.closed:
            warnings.warn(
                f"{self!r} was dropped while it listened: call invalidate()",
                ResourceWarning,
                stacklevel=2,
            )
            service.call(listener.close)

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self._address is None else f"{text[:-1]} {self._address}>"


def _check_number(port: int, *, least: int) -> None:
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"a port's number is an int, not {type(port).__name__}")
    if not least <= port <= 65535:
        raise ValueError(f"a port's number is {least} to 65535, not {port}")


def _check_settings(settings: Settings) -> None:
    if not isinstance(settings, Settings):
        raise TypeError(f"settings is a Settings, not {type(settings).__name__}")


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bound(address: Any, options: Sequence[Option]) -> sockets.socket:
    """A socket with the address."""
    if not isinstance(address, tuple) or len(address) != 2:
        raise TypeError(f"the address is a host and a port number, ('HOST', 0), not {address!r}")
    host, number = address
    if not isinstance(host, str):
        raise TypeError(f"the host is a str, not {type(host).__name__}")
    _check_number(number, least=0)
    try:
        family, _, _, _, place = sockets.getaddrinfo(
            host or None, number, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise TransportError(
            f"the host {host!r} cannot be found: {error}; give an IP address of this host"
        ) from error
    bound = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        # The number is free again at once when this process has ended.
        bound.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        if family == sockets.AF_INET6 and ipaddress.ip_address(place[0]).is_unspecified:
            bound.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 0)
        for level, name, value in options:
            bound.setsockopt(level, name, value)
        bound.bind(place)
    except OSError as error:
        bound.close()
        where = f"{_written(host)}:{number}"
        if error.errno == errno.EADDRINUSE:
            raise NameInUseError(
                f"{where} is taken: end who has it, or choose another number, such as 0 for any"
            ) from error
        raise TransportError(
            f"{where} cannot be listened at: {error.strerror}; give an address of this host, and a "
            "number that this user may use"
        ) from error
    except BaseException:
        bound.close()
        raise
    return bound


def _adopted(socket: sockets.socket, options: Sequence[Option]) -> sockets.socket:
    """A socket that somebody else made, such as systemd."""
    inet = socket.family in (sockets.AF_INET, sockets.AF_INET6)
    if not inet or socket.type != sockets.SOCK_STREAM:
        raise ValueError(f"{socket!r} cannot be adopted: it must be a TCP socket")
    if not socket.getsockname()[1]:
        raise ValueError(f"{socket!r} cannot be adopted: bind() it first")
    for level, name, value in options:
        try:
            socket.setsockopt(level, name, value)
        except OSError as error:
            raise TransportError(
                f"the socket does not take option {level, name, value}: {error.strerror}; leave it "
                "out, or give it another value"
            ) from error
    return socket
