"""pyzmq over ``ipc://``, which is a Unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send, SendBatch
from bench.optional import missing, optional

zmq = optional("zmq")
missing_zmq = missing(zmq)


@contextmanager
def _socket(kind: str) -> Iterator[Any]:
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kind))
    try:
        yield socket
    finally:
        socket.close(linger=0)
        context.term()


def _serve(kind: str, address: str, control: Control, turn: Callable[[Any], object]) -> None:
    with _socket(kind) as socket:
        socket.bind(f"ipc://{address}")
        control.ready()
        while True:
            turn(socket)


@contextmanager
def _connected(kind: str, address: str) -> Iterator[Any]:
    with _socket(kind) as socket:
        _connect(socket, address)
        yield socket


def _connect(socket: Any, address: str) -> None:
    socket.RCVTIMEO = socket.SNDTIMEO = int(PATIENCE * 1000)
    socket.connect(f"ipc://{address}")


def serve_calls(address: str, control: Control, kind: str) -> None:
    """Send back what comes."""
    _serve(kind, address, control, lambda socket: socket.send(socket.recv()))


@contextmanager
def call(kind: str, address: str) -> Iterator[Call]:
    """``send`` and ``recv``."""

    def ask(payload: bytes) -> Any:
        socket.send(payload)
        return socket.recv()

    with _connected(kind, address) as socket:
        yield ask


def serve_large(address: str, control: Control, copy: str) -> None:
    """Receive large data, copied into bytes or not, and say so."""

    def receive(socket: Any) -> None:
        touch(socket.recv() if copy else socket.recv(copy=False).buffer)
        socket.send(ACK)

    _serve("REP", address, control, receive)


@contextmanager
def call_large(address: str, *, copy: bool) -> Iterator[Call]:
    """``send`` large data, copied or not, and ``recv`` the answer."""

    def ask(payload: bytes) -> Any:
        socket.send(payload, copy=copy)
        return socket.recv()

    with _connected("REQ", address) as socket:
        yield ask
    if not copy:
        optional("zmq.utils.garbage").gc.stop()  # the thread that keeps what was not copied


def serve_messages(address: str, control: Control) -> None:
    """Count what comes."""
    _serve("PULL", address, control, lambda socket: control.handled(socket.recv()))


@contextmanager
def send(address: str) -> Iterator[Send]:
    """PUSH and PULL, with the limits they have by default."""
    with _connected("PUSH", address) as socket:
        yield socket.send


@contextmanager
def send_each(address: str) -> Iterator[SendBatch]:
    """As :func:`send`, each payload of a batch being a message."""

    def send_batch(payloads: list[bytes]) -> None:
        for payload in payloads:
            socket.send(payload)

    with _connected("PUSH", address) as socket:
        yield send_batch


def serve_multipart(address: str, control: Control) -> None:
    """Count the parts of what comes."""

    def receive(socket: Any) -> None:
        for payload in socket.recv_multipart():
            control.handled(payload)

    _serve("PULL", address, control, receive)


@contextmanager
def send_multipart(address: str) -> Iterator[SendBatch]:
    """PUSH and PULL, a batch being the parts of one message."""
    with _connected("PUSH", address) as socket:
        yield socket.send_multipart


def serve_many(address: str, control: Control, *_: str) -> None:
    """Answer everybody: a ROUTER keeps a queue for each connection."""

    def receive(socket: Any) -> None:
        sender, empty, _ = socket.recv_multipart()
        socket.send_multipart([sender, empty, ACK])

    _serve("ROUTER", address, control, receive)


@contextmanager
def connect_once(address: str) -> Iterator[Once]:
    """A new REQ socket each time, in one context."""

    def once() -> None:
        with context.socket(zmq.REQ) as socket:
            socket.linger = 0
            _connect(socket, address)
            socket.send(PAYLOAD)
            socket.recv()

    context = zmq.Context()
    try:
        yield once
    finally:
        context.term()


def crowd(address: str, control: Control, count: str) -> None:
    """REQ sockets that asked once."""
    gather(control, int(count), partial(_join, address))


def _join(address: str) -> Any:
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    _connect(socket, address)
    socket.send(PAYLOAD)
    socket.recv()
    return context, socket
