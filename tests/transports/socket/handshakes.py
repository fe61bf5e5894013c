"""Handshakes of TLS by themselves: what comes of two contexts."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import NamedTuple

from portkit_transports.socket.tls import TLSConfig, peer_names_of
from tests.support import PATIENCE


class Side(NamedTuple):
    """What came of a handshake on one side.

    Attributes:
        error: why it failed, or None.
        names: whom the peer's certificate names.
        certificate: of the peer, DER; empty if it showed none.
        version: of TLS.
    """

    error: ssl.SSLError | OSError | None
    names: tuple[str, ...] = ()
    certificate: bytes = b""
    version: str | None = None


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[Side, Side]:
    """Shake hands over a socket, and pass a byte each way: what came of it on both sides."""
    with ThreadPoolExecutor(1) as other, pair() as (left, right):
        both = Barrier(2)
        accepted = other.submit(side, left, server, both, server_side=True)
        dialled = side(right, client, both, server_side=False)
        return accepted.result(PATIENCE), dialled


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, with a time-out, closed at the end."""
    left, right = socket.socketpair()
    with left, right:
        left.settimeout(PATIENCE)
        right.settimeout(PATIENCE)
        yield left, right


def side(end: socket.socket, context: ssl.SSLContext, both: Barrier, *, server_side: bool) -> Side:
    """One side, which closes when both have ended: an alert is lost with a closed connection."""
    with context.wrap_socket(
        end, server_side=server_side, do_handshake_on_connect=False
    ) as connection:
        try:
            connection.do_handshake()
            connection.sendall(b"x")  # in TLS 1.3 the last word of the other comes after this
            if not connection.recv(1):
                return Side(ConnectionResetError())
            shown = connection.getpeercert(binary_form=True) or b""
            return Side(None, peer_names_of(connection), shown, connection.version())
        except OSError as error:
            return Side(error)
        finally:
            both.wait(PATIENCE)


def shake(server: TLSConfig, client: TLSConfig) -> tuple[Side, Side]:
    return handshake(server.server().context, client.client().context)
