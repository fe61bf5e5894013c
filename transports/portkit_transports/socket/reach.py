"""How the ports that a name server finds are reached."""

from __future__ import annotations

from typing import NamedTuple

from portkit.link.node import ANYONE
from portkit.port import Port
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.port import SocketPort
from portkit_transports.socket.security import Security
from portkit_transports.socket.shared_key import PreSharedKey
from portkit_transports.socket.tls import TLSConfig


class Reach(NamedTuple):
    """Arguments of ``SocketPort.remote`` that are the same for all ports.

    Attributes:
        tls: the certificates with which both sides prove who they are.
        key: the key that both sides have to prove.
        reconnect: connect again when the connection was lost, and how soon.
        connect_timeout: seconds for one attempt to connect.
    """

    tls: TLSConfig | None = None
    key: PreSharedKey | None = None
    reconnect: Backoff | None = None
    connect_timeout: float = 10.0

    def checked(self) -> Reach:
        """This, if a port can be reached so.

        Raises:
            TypeError: something is of the wrong type.
            ValueError: ``connect_timeout`` is no time.
        """
        Security.of(self.tls, self.key)
        if self.reconnect is not None and not isinstance(self.reconnect, Backoff):
            raise TypeError(f"reconnect is a portkit.Backoff, not {type(self.reconnect).__name__}")
        if not self.connect_timeout > 0:
            raise ValueError(f"connect_timeout is more than 0 s, not {self.connect_timeout}")
        return self

    def handle(self, host: str, number: int, port_id: bytes = ANYONE) -> Port:
        """A handle to the port there; see ``SocketPort.remote``."""
        return SocketPort.remote(
            host,
            number,
            tls=self.tls,
            key=self.key,
            reconnect=self.reconnect,
            connect_timeout=self.connect_timeout,
            port_id=port_id,
        )
