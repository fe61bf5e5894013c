"""``multiprocessing.connection`` over a Unix socket or TCP."""

from __future__ import annotations

import selectors
import socket as sockets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, TypeAlias

from bench.ipc.address import Address, Network
from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send, SendBatch

_Connection: TypeAlias = "Connection[Any, Any]"


def title(_: Network) -> str:
    """What the rows call it."""
    return "multiprocessing"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return ""


def _serve(address: Address, control: Control, turn: Callable[[_Connection], object]) -> None:
    """One connection."""
    with Listener(address.of_socket, address.family.name) as listener:
        control.ready()
        with listener.accept() as connection, suppress(EOFError):
            while True:
                turn(connection)


def _connected(address: Address) -> _Connection:
    connection = Client(address.of_socket, address.family.name)
    with sockets.socket(fileno=connection.fileno()) as same:
        for option in (sockets.SO_RCVTIMEO, sockets.SO_SNDTIMEO):
            same.setsockopt(sockets.SOL_SOCKET, option, struct.pack("@ll", int(PATIENCE), 0))
        same.detach()
    return connection


def serve_calls(address: Address, control: Control) -> None:
    """Send back what comes."""
    _serve(address, control, lambda connection: connection.send_bytes(connection.recv_bytes()))


def serve_large(address: Address, control: Control) -> None:
    """Touch what comes and say so."""

    def receive(connection: _Connection) -> None:
        touch(connection.recv_bytes())
        connection.send_bytes(ACK)

    _serve(address, control, receive)


@contextmanager
def call(address: Address) -> Iterator[Call]:
    """``send_bytes`` and ``recv_bytes``."""

    def ask(payload: bytes) -> bytes:
        connection.send_bytes(payload)
        return connection.recv_bytes()

    with _connected(address) as connection:
        yield ask


def serve_messages(address: Address, control: Control) -> None:
    """Count what comes."""
    _serve(address, control, lambda connection: control.handled(connection.recv_bytes()))


@contextmanager
def send(address: Address) -> Iterator[Send]:
    """``send_bytes``."""
    with _connected(address) as connection:
        yield connection.send_bytes


def serve_lists(address: Address, control: Control) -> None:
    """Count the items of what comes."""

    def receive(connection: _Connection) -> None:
        for payload in connection.recv():
            control.handled(payload)

    _serve(address, control, receive)


@contextmanager
def send_lists(address: Address) -> Iterator[SendBatch]:
    """``send``, a batch being a pickled list."""
    with _connected(address) as connection:
        yield connection.send


def serve_many(address: Address, control: Control, *_: str) -> None:
    """Answer everybody who is connected, by a selector; it has no way of its own."""
    with (
        selectors.DefaultSelector() as selector,
        Listener(address.of_socket, address.family.name, backlog=128) as listener,
    ):
        inner: Any = listener
        selector.register(inner._listener._socket, selectors.EVENT_READ)
        control.ready()
        while True:
            for key, _mask in selector.select():
                if key.data is None:
                    connection = listener.accept()
                    selector.register(connection, selectors.EVENT_READ, connection)
                else:
                    _answer(key.data, selector)


def _answer(connection: _Connection, selector: selectors.BaseSelector) -> None:
    try:
        connection.recv_bytes()
        connection.send_bytes(ACK)
    except EOFError:
        selector.unregister(connection)
        connection.close()


@contextmanager
def connect_once(address: Address) -> Iterator[Once]:
    """A new connection each time."""

    def once() -> None:
        with _connected(address) as connection:
            connection.send_bytes(PAYLOAD)
            connection.recv_bytes()

    yield once


def crowd(address: Address, control: Control, count: str) -> None:
    """Connections that asked once."""
    gather(address, control, int(count), partial(_join, address))


def _join(address: Address) -> _Connection:
    connection = _connected(address)
    connection.send_bytes(PAYLOAD)
    connection.recv_bytes()
    return connection
