"""What a peer sends right after its handshake arrives with the end of that, and is read."""

from __future__ import annotations

import os
import socket
import ssl

from portkit.link import frames
from portkit.link.frames import HEADER_SIZE, Kind
from portkit.link.greeting import greeting
from portkit_transports.socket.port import SETTINGS, SocketPort
from tests.support import PATIENCE
from tests.transports.socket.pki import Pki


def test_a_greeting_that_comes_with_the_last_of_the_handshake_is_answered(pki: Pki) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = pki.config("client").client().context
    tls = context.wrap_bio(incoming, outgoing, server_side=False)
    with SocketPort(tls=pki.config("server")) as port:
        host, number = str(port.address).removeprefix("socket://").split(":")
        with socket.create_connection((host, int(number)), PATIENCE) as connection:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(1 << 16))
            tls.write(frames.record(Kind.HELLO, greeting(b"r" * 16, os.getpid(), SETTINGS.limits)))
            connection.sendall(outgoing.read())
            assert _first_kind(tls, incoming, connection) == Kind.WELCOME


def _first_kind(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, connection: socket.socket) -> int:
    came = b""
    while len(came) < HEADER_SIZE:
        try:
            came += tls.read(HEADER_SIZE - len(came))
        except ssl.SSLWantReadError:
            incoming.write(connection.recv(1 << 16))
    kind: int = frames.HEADER.unpack_from(came)[1]
    return kind
