"""A bare stream socket in Python, or TLS over it: what a port could cost at best.

No frames but a length before large data, no limits, no errors, one peer.
"""

from __future__ import annotations

import selectors
import socket as sockets
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from socket import socket as Socket  # noqa: N812

from bench.ipc.address import Address, Network, certificate
from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send, SendBatch

_CHUNK = 1 << 16
_LENGTH = struct.Struct("=Q")
_SIZE = len(PAYLOAD)


def title(network: Network) -> str:
    """What the rows call it."""
    kind = {"ipc": "Unix", "tcp": "TCP", "tls": "TLS"}[network]
    return f"bare {kind} socket, Python"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return ""


@contextmanager
def _listening(address: Address) -> Iterator[Socket]:
    listener = Socket(address.family)
    if address.network == "tls":
        listener = tls_context(address, "server").wrap_socket(listener, server_side=True)
    with listener:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listener.bind(address.of_socket)
        listener.listen(128)
        yield listener


def _serve(address: Address, control: Control, serve_one: Callable[[Socket], object]) -> None:
    with _listening(address) as listener:
        control.ready()
        connection, _ = listener.accept()
        with connection:
            _no_delay(address, connection)
            serve_one(connection)


def connected(address: Address, context: ssl.SSLContext | None = None) -> Socket:
    """A new connection; with TLS where the address says so."""
    connection = Socket(address.family)
    for option in (sockets.SO_RCVTIMEO, sockets.SO_SNDTIMEO):
        connection.setsockopt(sockets.SOL_SOCKET, option, struct.pack("@ll", int(PATIENCE), 0))
    connection.connect(address.of_socket)
    _no_delay(address, connection)
    context = context or client_context(address)
    if context is not None:
        connection = context.wrap_socket(connection, server_hostname="server")
    return connection


def _no_delay(address: Address, connection: Socket) -> None:
    if address.family == sockets.AF_INET:
        connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)


def tls_context(address: Address, name: str) -> ssl.SSLContext:
    """For the server or the client: TLS 1.3, and each has to show a certificate."""
    authority, own, key = certificate(address, name)
    purpose = ssl.Purpose.CLIENT_AUTH if name == "server" else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(own, key)
    return context


def client_context(address: Address) -> ssl.SSLContext | None:
    """The client's, or None where there is no TLS."""
    return tls_context(address, "client") if address.network == "tls" else None


def serve_calls(address: Address, control: Control) -> None:
    """Send back what comes."""

    def serve_one(connection: Socket) -> None:
        while received := connection.recv(_CHUNK):
            connection.send(received)

    _serve(address, control, serve_one)


@contextmanager
def call(address: Address) -> Iterator[Call]:
    """``send`` and ``recv``."""

    def ask(payload: bytes) -> bytes:
        connection.send(payload)
        return connection.recv(_CHUNK)

    with connected(address) as connection:
        yield ask


def serve_large(address: Address, control: Control) -> None:
    """Receive into one standing buffer, and say so."""

    def serve_one(connection: Socket) -> None:
        buffer = memoryview(bytearray())
        while header := connection.recv(_LENGTH.size):
            (length,) = _LENGTH.unpack(header)
            if length > len(buffer):
                buffer = memoryview(bytearray(length))
            filled = 0
            while filled < length:
                filled += connection.recv_into(buffer[filled:length])
            touch(buffer[:length])
            connection.send(ACK)

    _serve(address, control, serve_one)


@contextmanager
def call_large(address: Address) -> Iterator[Call]:
    """``sendall``, after the length."""

    def ask(payload: bytes) -> bytes:
        connection.send(_LENGTH.pack(len(payload)))
        connection.sendall(payload)
        return connection.recv(_CHUNK)

    with connected(address) as connection:
        yield ask


def serve_messages(address: Address, control: Control) -> None:
    """Count payloads, as many as came at once."""

    def serve_one(connection: Socket) -> None:
        rest = b""
        while received := connection.recv(_CHUNK):
            received = rest + received
            end = len(received) // _SIZE * _SIZE
            for start in range(0, end, _SIZE):
                control.handled(received[start : start + _SIZE])
            rest = received[end:]

    _serve(address, control, serve_one)


@contextmanager
def send(address: Address) -> Iterator[Send]:
    """``sendall``."""
    with connected(address) as connection:
        yield connection.sendall


@contextmanager
def send_batch(address: Address) -> Iterator[SendBatch]:
    """``sendall`` of what was joined."""

    def send_joined(payloads: list[bytes]) -> None:
        connection.sendall(b"".join(payloads))

    with connected(address) as connection:
        yield send_joined


def serve_many(address: Address, control: Control, *_: str) -> None:
    """Answer everybody who is connected, by a selector."""

    def accept(listener: Socket) -> None:
        connection, _ = listener.accept()
        _no_delay(address, connection)
        selector.register(connection, selectors.EVENT_READ, answer)

    def answer(connection: Socket) -> None:
        if connection.recv(_CHUNK):
            connection.send(ACK)
        else:
            selector.unregister(connection)
            connection.close()

    with selectors.DefaultSelector() as selector, _listening(address) as listener:
        selector.register(listener, selectors.EVENT_READ, accept)
        control.ready()
        while True:
            for key, _mask in selector.select():
                key.data(key.fileobj)


@contextmanager
def connect_once(address: Address) -> Iterator[Once]:
    """A new connection each time."""

    def once() -> None:
        with connected(address, context) as connection:
            connection.send(PAYLOAD)
            connection.recv(_CHUNK)

    context = client_context(address)
    yield once


def crowd(address: Address, control: Control, count: str) -> None:
    """Connections that asked once."""
    gather(address, control, int(count), partial(_join, address, client_context(address)))


def _join(address: Address, context: ssl.SSLContext | None) -> Socket:
    connection = connected(address, context)
    connection.send(PAYLOAD)
    connection.recv(_CHUNK)
    return connection
