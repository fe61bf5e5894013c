"""A bare Unix stream socket in Python: what a port between processes could cost at best.

No frames but a length before large data, no limits, no errors, one peer.
"""

from __future__ import annotations

import selectors
import socket as sockets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from socket import socket as Socket  # noqa: N812

from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send, SendBatch

_CHUNK = 1 << 16
_LENGTH = struct.Struct("=Q")
_SIZE = len(PAYLOAD)


@contextmanager
def _listening(address: str) -> Iterator[Socket]:
    with Socket(sockets.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(128)
        yield listener


def _serve(address: str, control: Control, serve_one: Callable[[Socket], object]) -> None:
    with _listening(address) as listener:
        control.ready()
        with listener.accept()[0] as connection:
            serve_one(connection)


def _connected(address: str) -> Socket:
    connection = Socket(sockets.AF_UNIX)
    for option in (sockets.SO_RCVTIMEO, sockets.SO_SNDTIMEO):
        connection.setsockopt(sockets.SOL_SOCKET, option, struct.pack("@ll", int(PATIENCE), 0))
    connection.connect(address)
    return connection


def serve_calls(address: str, control: Control) -> None:
    """Send back what comes."""

    def serve_one(connection: Socket) -> None:
        while received := connection.recv(_CHUNK):
            connection.send(received)

    _serve(address, control, serve_one)


@contextmanager
def call(address: str) -> Iterator[Call]:
    """``send`` and ``recv``."""

    def ask(payload: bytes) -> bytes:
        connection.send(payload)
        return connection.recv(_CHUNK)

    with _connected(address) as connection:
        yield ask


def serve_large(address: str, control: Control) -> None:
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
def call_large(address: str) -> Iterator[Call]:
    """``sendall``, after the length."""

    def ask(payload: bytes) -> bytes:
        connection.send(_LENGTH.pack(len(payload)))
        connection.sendall(payload)
        return connection.recv(_CHUNK)

    with _connected(address) as connection:
        yield ask


def serve_messages(address: str, control: Control) -> None:
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
def send(address: str) -> Iterator[Send]:
    """``sendall``."""
    with _connected(address) as connection:
        yield connection.sendall


@contextmanager
def send_batch(address: str) -> Iterator[SendBatch]:
    """``sendall`` of what was joined."""

    def send_joined(payloads: list[bytes]) -> None:
        connection.sendall(b"".join(payloads))

    with _connected(address) as connection:
        yield send_joined


def serve_many(address: str, control: Control, *_: str) -> None:
    """Answer everybody who is connected, by a selector."""

    def accept(listener: Socket) -> None:
        connection, _ = listener.accept()
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
def connect_once(address: str) -> Iterator[Once]:
    """A new connection each time."""

    def once() -> None:
        with _connected(address) as connection:
            connection.send(PAYLOAD)
            connection.recv(_CHUNK)

    yield once


def crowd(address: str, control: Control, count: str) -> None:
    """Connections that asked once."""
    gather(control, int(count), partial(_join, address))


def _join(address: str) -> Socket:
    connection = _connected(address)
    connection.send(PAYLOAD)
    connection.recv(_CHUNK)
    return connection
