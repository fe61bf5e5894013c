"""pyzmq over ``ipc://``, which is a Unix socket, and ``tcp://``; secured by CURVE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.ipc.address import Address, Network
from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send, SendBatch
from bench.optional import missing as missing_module
from bench.optional import optional

zmq = optional("zmq")

_SERVER_KEY = b"JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"  # these two are the manual's examples
_CLIENT_KEY = b"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"


def missing(network: Network) -> str:
    """Why it cannot be measured, or ""."""
    if zmq is not None and network == "tls" and not zmq.has("curve"):
        return "built without CURVE"
    return missing_module(zmq)


def title(network: Network) -> str:
    """What the rows call it."""
    return "pyzmq CURVE" if network == "tls" else f"pyzmq {network}"


@contextmanager
def _socket(kind: str) -> Iterator[Any]:
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kind))
    try:
        yield socket
    finally:
        socket.close(linger=0)
        context.term()


def _serve(kind: str, address: Address, control: Control, turn: Callable[[Any], object]) -> None:
    with _socket(kind) as socket:
        if address.network == "tls":
            socket.curve_server = True
            socket.curve_secretkey = _SERVER_KEY
        socket.bind(address.endpoint)
        control.ready()
        while True:
            turn(socket)


@contextmanager
def _connected(kind: str, address: Address) -> Iterator[Any]:
    with _socket(kind) as socket:
        _connect(socket, address)
        yield socket


def _connect(socket: Any, address: Address) -> None:
    socket.RCVTIMEO = socket.SNDTIMEO = int(PATIENCE * 1000)
    if address.network == "tls":
        socket.curve_serverkey = zmq.curve_public(_SERVER_KEY)
        socket.curve_secretkey = _CLIENT_KEY
        socket.curve_publickey = zmq.curve_public(_CLIENT_KEY)
    socket.connect(address.endpoint)


def serve_calls(address: Address, control: Control, kind: str) -> None:
    """Send back what comes."""
    _serve(kind, address, control, lambda socket: socket.send(socket.recv()))


@contextmanager
def call(kind: str, address: Address) -> Iterator[Call]:
    """``send`` and ``recv``."""

    def ask(payload: bytes) -> Any:
        socket.send(payload)
        return socket.recv()

    with _connected(kind, address) as socket:
        yield ask


def serve_large(address: Address, control: Control, copy: str) -> None:
    """Receive large data, copied into bytes or not, and say so."""

    def receive(socket: Any) -> None:
        touch(socket.recv() if copy else socket.recv(copy=False).buffer)
        socket.send(ACK)

    _serve("REP", address, control, receive)


@contextmanager
def call_large(address: Address, *, copy: bool) -> Iterator[Call]:
    """``send`` large data, copied or not, and ``recv`` the answer."""

    def ask(payload: bytes) -> Any:
        socket.send(payload, copy=copy)
        return socket.recv()

    with _connected("REQ", address) as socket:
        yield ask
    if not copy:
        optional("zmq.utils.garbage").gc.stop()  # the thread that keeps what was not copied


def serve_messages(address: Address, control: Control) -> None:
    """Count what comes."""
    _serve("PULL", address, control, lambda socket: control.handled(socket.recv()))


@contextmanager
def send(address: Address) -> Iterator[Send]:
    """PUSH and PULL, with the limits they have by default."""
    with _connected("PUSH", address) as socket:
        yield socket.send


@contextmanager
def send_each(address: Address) -> Iterator[SendBatch]:
    """As :func:`send`, each payload of a batch being a message."""

    def send_batch(payloads: list[bytes]) -> None:
        for payload in payloads:
            socket.send(payload)

    with _connected("PUSH", address) as socket:
        yield send_batch


def serve_multipart(address: Address, control: Control) -> None:
    """Count the parts of what comes."""

    def receive(socket: Any) -> None:
        for payload in socket.recv_multipart():
            control.handled(payload)

    _serve("PULL", address, control, receive)


@contextmanager
def send_multipart(address: Address) -> Iterator[SendBatch]:
    """PUSH and PULL, a batch being the parts of one message."""
    with _connected("PUSH", address) as socket:
        yield socket.send_multipart


def serve_many(address: Address, control: Control, *_: str) -> None:
    """Answer everybody: a ROUTER keeps a queue for each connection."""

    def receive(socket: Any) -> None:
        sender, empty, _ = socket.recv_multipart()
        socket.send_multipart([sender, empty, ACK])

    _serve("ROUTER", address, control, receive)


@contextmanager
def connect_once(address: Address) -> Iterator[Once]:
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


def crowd(address: Address, control: Control, count: str) -> None:
    """REQ sockets that asked once."""
    gather(address, control, int(count), partial(_join, address, _Contexts()))


class _Contexts:
    """One for all sockets of a process; made when the first is, as a process may fork before."""

    def __init__(self) -> None:
        self._context: Any = None

    def get(self) -> Any:
        if self._context is None:
            self._context = zmq.Context()
            self._context.set(zmq.MAX_SOCKETS, 1 << 15)
        return self._context


def _join(address: Address, contexts: _Contexts) -> Any:
    context = contexts.get()
    socket = context.socket(zmq.REQ)
    _connect(socket, address)
    socket.send(PAYLOAD)
    socket.recv()
    return context, socket
