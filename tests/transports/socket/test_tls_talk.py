"""Peers whose TLS talks of itself without end, and says nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from itertools import repeat

from portkit_transports.socket.tls_channel import TLSChannel
from tests.support import PATIENCE, eventually
from tests.transports.socket.connections import await_ready, meddle, tcp_pair
from tests.transports.socket.pki import Pki

TICKETS = 1000


def serve(connection: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(connection, server_side=True) as tls:
        tls.sendall(b"at last")
        tls.recv(1)


def test_others_have_their_turn_meanwhile(pki: Pki) -> None:
    """Tickets here, or new keys: a peer that means no good sends them for ever."""
    config = pki.config()
    assert config.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.certificate, config.key)
    context.num_tickets = TICKETS
    near, far = tcp_pair()
    far.settimeout(PATIENCE)
    channel = TLSChannel(near, config.client().context, server=False)
    server = threading.Thread(target=serve, args=(far, context))
    server.start()
    try:
        assert eventually(channel.advance)
        turns = [0]

        def receives() -> int:
            turns[-1] += 1
            return 1000

        meddle(channel, receives=(receives() for _ in repeat(None)))
        data = b""
        while not data:
            await_ready(channel)
            turns.append(0)
            buffer = bytearray(100)
            try:
                data = bytes(buffer[: channel.read(memoryview(buffer))[0]])
            except BlockingIOError:
                pass
        assert data == b"at last"
        assert sum(turns) * 1000 > TICKETS * 100
        assert max(turns) <= 4
    finally:
        channel.shutdown()
        channel.close_in_child()
        server.join(PATIENCE)
