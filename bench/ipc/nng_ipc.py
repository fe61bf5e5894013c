"""pynng over ``ipc://``, which is a Unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send
from bench.optional import missing, optional

pynng = optional("pynng")
missing_nng = missing(pynng)

_QUEUE = 1000
"""Messages that may wait on each side: what pyzmq allows by default; nng's own default is none."""


def _serve(
    kind: str, address: str, control: Control, turn: Callable[[Any], object], **options: Any
) -> None:
    with getattr(pynng, kind)(listen=f"ipc://{address}", **options) as socket:
        control.ready()
        while True:
            turn(socket)


def _connected(kind: str, address: str, **options: Any) -> Any:
    patience = int(PATIENCE * 1000)
    return getattr(pynng, kind)(
        dial=f"ipc://{address}",
        block_on_dial=True,
        recv_timeout=patience,
        send_timeout=patience,
        **options,
    )


def serve_calls(address: str, control: Control) -> None:
    """Send back what comes."""
    _serve("Rep0", address, control, lambda socket: socket.send(socket.recv()))


def serve_acknowledging(address: str, control: Control, *_: str) -> None:
    """Touch what comes, from whomever, and say so."""

    def receive(socket: Any) -> None:
        touch(socket.recv())
        socket.send(ACK)

    _serve("Rep0", address, control, receive)


@contextmanager
def call(address: str) -> Iterator[Call]:
    """``send`` and ``recv`` on REQ and REP."""

    def ask(payload: bytes) -> Any:
        socket.send(payload)
        return socket.recv()

    with _connected("Req0", address) as socket:
        yield ask


def serve_messages(address: str, control: Control) -> None:
    """Count what comes."""
    _serve(
        "Pull0",
        address,
        control,
        lambda socket: control.handled(socket.recv()),
        recv_buffer_size=_QUEUE,
    )


@contextmanager
def send(address: str) -> Iterator[Send]:
    """PUSH and PULL."""
    with _connected("Push0", address, send_buffer_size=_QUEUE) as socket:
        yield socket.send


@contextmanager
def connect_once(address: str) -> Iterator[Once]:
    """A new REQ socket each time."""

    def once() -> None:
        with _connected("Req0", address) as socket:
            socket.send(PAYLOAD)
            socket.recv()

    yield once


def crowd(address: str, control: Control, count: str) -> None:
    """REQ sockets that asked once."""
    gather(control, int(count), partial(_join, address))


def _join(address: str) -> Any:
    socket = _connected("Req0", address)
    socket.send(PAYLOAD)
    socket.recv()
    return socket
