"""``multiprocessing.connection`` over a Unix socket."""

from __future__ import annotations

import socket as sockets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, TypeAlias

from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send, SendBatch

_Connection: TypeAlias = "Connection[Any, Any]"


def _serve(address: str, control: Control, turn: Callable[[_Connection], object]) -> None:
    """One connection."""
    with Listener(address, "AF_UNIX") as listener:
        control.ready()
        with listener.accept() as connection, suppress(EOFError):
            while True:
                turn(connection)


def _connected(address: str) -> _Connection:
    connection = Client(address, "AF_UNIX")
    with sockets.socket(fileno=connection.fileno()) as same:
        for option in (sockets.SO_RCVTIMEO, sockets.SO_SNDTIMEO):
            same.setsockopt(sockets.SOL_SOCKET, option, struct.pack("@ll", int(PATIENCE), 0))
        same.detach()
    return connection


def serve_calls(address: str, control: Control) -> None:
    """Send back what comes."""
    _serve(address, control, lambda connection: connection.send_bytes(connection.recv_bytes()))


def serve_large(address: str, control: Control) -> None:
    """Touch what comes and say so."""

    def receive(connection: _Connection) -> None:
        touch(connection.recv_bytes())
        connection.send_bytes(ACK)

    _serve(address, control, receive)


@contextmanager
def call(address: str) -> Iterator[Call]:
    """``send_bytes`` and ``recv_bytes``."""

    def ask(payload: bytes) -> bytes:
        connection.send_bytes(payload)
        return connection.recv_bytes()

    with _connected(address) as connection:
        yield ask


def serve_messages(address: str, control: Control) -> None:
    """Count what comes."""
    _serve(address, control, lambda connection: control.handled(connection.recv_bytes()))


@contextmanager
def send(address: str) -> Iterator[Send]:
    """``send_bytes``."""
    with _connected(address) as connection:
        yield connection.send_bytes


def serve_lists(address: str, control: Control) -> None:
    """Count the items of what comes."""

    def receive(connection: _Connection) -> None:
        for payload in connection.recv():
            control.handled(payload)

    _serve(address, control, receive)


@contextmanager
def send_lists(address: str) -> Iterator[SendBatch]:
    """``send``, a batch being a pickled list."""
    with _connected(address) as connection:
        yield connection.send


def serve_many(address: str, control: Control, keep: str = "") -> None:
    """Answer one connection after the other; close each, or keep it open."""
    kept = []
    with Listener(address, "AF_UNIX", backlog=128) as listener:
        control.ready()
        while True:
            connection = listener.accept()
            connection.recv_bytes()
            connection.send_bytes(ACK)
            if keep:
                kept.append(connection)
            else:
                connection.close()


@contextmanager
def connect_once(address: str) -> Iterator[Once]:
    """A new connection each time."""

    def once() -> None:
        with _connected(address) as connection:
            connection.send_bytes(PAYLOAD)
            connection.recv_bytes()

    yield once


def crowd(address: str, control: Control, count: str) -> None:
    """Connections that asked once."""
    gather(control, int(count), partial(_join, address))


def _join(address: str) -> _Connection:
    connection = _connected(address)
    connection.send_bytes(PAYLOAD)
    connection.recv_bytes()
    return connection
