"""Peers over TCP that keep to the protocol, and mean no good."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from portkit import SocketPort
from portkit.link import frames, leaving
from portkit.link.frames import Kind
from portkit.link.greeting import greeting
from portkit.link.node import ANYONE, Settings
from portkit.link.table import OPENED
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.ends import place

HELLO = frames.record(Kind.HELLO, greeting(b"r" * 16, 1, Settings().limits))
DOOR = OPENED | 1


@contextmanager
def raw(port: SocketPort) -> Iterator[socket.socket]:
    """A peer with a right to the port."""
    with socket.create_connection(place(port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(HELLO + frames.open_right(DOOR, ANYONE, ANYONE))
        assert eventually(lambda: port._senders)
        yield connection


@contextmanager
def talking(connection: socket.socket) -> Iterator[None]:
    """It goes on talking, so that no heartbeat finds it dead, and never ends."""
    done = threading.Event()

    def talk() -> None:
        try:
            while not done.wait(0.02):
                connection.sendall(frames.ping())
        except OSError:
            pass  # the port has had enough

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(PATIENCE)


def test_who_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_FAREWELL", 0.1)
    with SocketPort(settings=Settings(heartbeat=0.5)) as port, raw(port) as peer, talking(peer):
        port.invalidate()
        assert eventually(lambda: not port._node.links)


def test_who_never_reads_is_left_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaving, "_FAREWELL", 0.5)
    with (
        LoopThread() as loop,
        SocketPort(delegate=lambda _: bytes(20_000_000), settings=Settings(heartbeat=0.5)) as port,
        raw(port) as peer,
    ):
        loop.call(loop.loop.add_port, port)
        peer.sendall(frames.simple_message(Kind.MESSAGE, DOOR, 0, 1, b"?"))
        (link,) = port._node.links
        assert eventually(lambda: link.outbox.size)
        with talking(peer):
            port.invalidate()
            assert eventually(lambda: not port._node.links)
        assert "bytes unread" in caplog.text
