"""A connected TCP socket, as links use it."""

from __future__ import annotations

import socket
import struct

NOT_BOTH_TLS = "one side speaks TLS and the other does not: give tls= to both, or to none"
"""What either side says where that is so."""
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_INFO = struct.Struct("=24xI92xQ16xI")
"""Of Linux's struct tcp_info: tcpi_unacked, in segments, tcpi_bytes_acked, tcpi_notsent_bytes."""


class Connection(socket.socket):
    """Closes without a warning: it goes with its link, which is often found as garbage."""

    __slots__ = ()

    @classmethod
    def taking(cls, connection: socket.socket) -> Connection:
        """The connection, taken over from ``connection``: non-blocking, and without delays."""
        taken = cls(connection.family, connection.type, connection.proto, connection.detach())
        taken.setblocking(False)
        # A message is written whole: to wait for more of it only costs time.
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return taken

    def acknowledged(self) -> int | None:
        """As :class:`portkit.link.channel.Channel` says; only Linux knows."""
        if _TCP_INFO is None:
            return None
        try:
            info = self.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size)
        except OSError:
            return None  # it has ended
        if len(info) < _INFO.size:
            return None  # a kernel before 4.6
        under_way, acknowledged, waiting = _INFO.unpack(info)  # waiting: for the peer's window
        return int(acknowledged) if under_way or waiting else None

    def end(self) -> None:
        """End both directions."""
        try:
            self.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was quicker

    def finish(self) -> None:
        """End the direction to the peer, after what was written."""
        try:
            self.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # as above

    def __del__(self) -> None:
        self.close()


def host_of(connection: socket.socket) -> str:
    """The IP address at the other end, without its port; empty where it is gone already."""
    try:
        host = str(connection.getpeername()[0])
    except OSError:
        return ""
    return host.removeprefix("::ffff:")  # IPv4 that came in by an IPv6 socket


def network_of(host: str) -> str:
    """Of an IPv6 address the network, for each host has all of its 2**64 addresses; else itself."""
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8].hex()
