"""From an address to a connection whose other end has proved who it is."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from portkit._context import detached
from portkit._report import report
from portkit.errors import AuthenticationError, PortError, TransportError
from portkit.link import service
from portkit.link.node import ANYONE, Settings
from portkit.runloop import Timer
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.handshake import (
    ClientHandshake,
    Handshake,
    SocketChannel,
    reason_of,
)
from portkit_transports.socket.racing import Option, Race
from portkit_transports.socket.resolving import Place, resolve
from portkit_transports.socket.security import Security
from portkit_transports.socket.tls_channel import NotTLSError

Dialled: TypeAlias = "Callable[[SocketChannel | PortError], object]"


_THEIR_FAULT = "see whether the port is open there, and whether a firewall is in between"
_OWN_FAULTS = {
    errno.EMFILE: "close what is not needed, or raise 'ulimit -n'",
    errno.ENFILE: "close what is not needed: the system has no more descriptors",
    errno.EADDRNOTAVAIL: "this host has no address or port number left to connect from",
    errno.ENETUNREACH: "this host has no route to there: look at its network",
    errno.EINVAL: "it is no address to connect to",
}


class Destination(NamedTuple):
    """What makes a remote port that one (P15), and how to get there.

    Attributes:
        host: a name or an IP address.
        port: the number.
        port_id: of the very port that is meant; zeros for whichever listens there.
        security: what is to be proved.
        reconnect: whether and when to connect again.
        connect_timeout: seconds for one attempt, from the name to the proofs.
        options: of the socket.
        settings: what is allowed on the link.
    """

    host: str
    port: int
    port_id: bytes = ANYONE
    security: Security = Security()
    reconnect: Backoff | None = None
    connect_timeout: float = 10.0
    options: tuple[Option, ...] = ()
    settings: Settings = Settings()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Dialling:
    """One attempt, on the service thread.

    Args:
        destination: where to.
        dialled: called once on the service thread: with the channel, or why there is none.
    """

    def __init__(self, destination: Destination, dialled: Dialled) -> None:
        self._destination = destination
        self._dialled: Dialled | None = dialled
        self._timer: Timer | None = None
        self._race: Race | None = None
        self._handshake: ClientHandshake | None = None
        self._doing = "looking up the host"

    def start(self, delay: float = 0.0) -> None:
        """Begin in ``delay`` seconds. Any thread."""
        loop = service.join(self)
        if delay > 0:
            detached(loop.perform, self._begin_later, delay)
        else:
            detached(loop.perform, self._begin)

    def cancel(self) -> None:
        """Give it up; nobody is told. Any thread, also a finalizer's."""
        self._dialled = None
        service.call(self._end)

    def _begin_later(self, delay: float) -> None:
        loop = service.loop()
        if loop is not None and self._dialled is not None:
            self._timer = loop.call_later(delay, self._begin)

    def _begin(self) -> None:
        loop = service.loop()
        if loop is None or self._dialled is None:
            return
        destination = self._destination
        self._timer = loop.call_later(destination.connect_timeout, self._too_late)
        resolve(destination.host, destination.port, loop, self._resolved)

    def _resolved(self, found: list[Place] | PortError) -> None:
        loop = service.loop()
        if self._dialled is None or loop is None:
            return
        if isinstance(found, PortError):
            self._over(found)
            return
        self._doing = "connecting"
        self._race = Race(found, self._destination.options, loop, self._connected)
        self._race.start()

    def _connected(self, connection: socket.socket | OSError) -> None:
        destination = self._destination
        if isinstance(connection, OSError):
            remedy = _OWN_FAULTS.get(connection.errno or 0, _THEIR_FAULT)
            self._over(
                TransportError(
                    f"{destination} cannot be connected to: {connection.strerror}; {remedy}"
                )
            )
            return
        self._doing = "the handshake"
        try:
            self._handshake = ClientHandshake(
                connection,
                destination.security,
                destination.connect_timeout,
                self._shaken,
                dialled=destination.host,
            )
            self._handshake.start()
        except PortError as error:
            self._over(error)
        except Exception as error:
            report("a connection could not be begun", error, self)
            self._over(TransportError(f"{destination} cannot be connected to: {error!r}"))

    def _shaken(self, handshake: Handshake, error: PortError | None) -> None:
        if error is None:
            self._over(handshake.channel)
            return
        if isinstance(error, NotTLSError) and (reason := reason_of(error)):
            error = AuthenticationError(f"the peer refused the connection: {reason}")
        self._over(type(error)(f"{self._destination}: {error}"))

    def _too_late(self) -> None:
        self._over(
            TransportError(
                f"{self._destination} did not answer within {self._destination.connect_timeout} s "
                f"({self._doing}): see whether the host is up, or raise connect_timeout="
            )
        )

    def _over(self, outcome: SocketChannel | PortError) -> None:
        dialled, self._dialled = self._dialled, None
        try:
            if dialled is not None:
                dialled(outcome)  # which makes a link, that needs the service thread too
        finally:
            self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.invalidate()
        if self._race is not None:
            self._race.cancel()
        if self._handshake is not None:
            self._handshake.cancel()
        self._timer = self._race = self._handshake = None
        service.leave(self)
