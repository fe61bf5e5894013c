"""pynng over ``ipc://``, which is a Unix socket, ``tcp://``, and ``tls+tcp://``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.ipc.address import Address, Network, certificate
from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send
from bench.optional import missing as missing_module
from bench.optional import optional

pynng = optional("pynng")

_QUEUE = 1000
"""Messages that may wait on each side: what pyzmq allows by default; nng's own default is none."""


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return missing_module(pynng)


def title(network: Network) -> str:
    """What the rows call it."""
    return f"pynng {network}"


def _serve(
    kind: str, address: Address, control: Control, turn: Callable[[Any], object], **options: Any
) -> None:
    options |= _tls(address, "server")
    with getattr(pynng, kind)(listen=_endpoint(address), **options) as socket:
        control.ready()
        while True:
            turn(socket)


def _endpoint(address: Address) -> str:
    return f"tls+{address.endpoint}" if address.network == "tls" else address.endpoint


def _tls(address: Address, name: str) -> dict[str, Any]:
    if address.network != "tls":
        return {}
    kind = pynng.TLSConfig
    expected = {"mode": kind.MODE_SERVER}
    if name == "client":
        expected = {"mode": kind.MODE_CLIENT, "server_name": "server"}
    authority, own, key = (path.read_text() for path in certificate(address, name))
    config = kind(
        **expected,
        ca_string=authority,
        own_cert_string=own,
        own_key_string=key,
        auth_mode=kind.AUTH_MODE_REQUIRED,
    )
    return {"tls_config": config}


def _connected(kind: str, address: Address, **options: Any) -> Any:
    patience = int(PATIENCE * 1000)
    options |= _tls(address, "client")
    return getattr(pynng, kind)(
        dial=_endpoint(address),
        block_on_dial=True,
        recv_timeout=patience,
        send_timeout=patience,
        **options,
    )


def serve_calls(address: Address, control: Control) -> None:
    """Send back what comes."""
    _serve("Rep0", address, control, lambda socket: socket.send(socket.recv()))


def serve_acknowledging(address: Address, control: Control, *_: str) -> None:
    """Touch what comes, from whomever, and say so."""

    def receive(socket: Any) -> None:
        touch(socket.recv())
        socket.send(ACK)

    _serve("Rep0", address, control, receive)


@contextmanager
def call(address: Address) -> Iterator[Call]:
    """``send`` and ``recv`` on REQ and REP."""

    def ask(payload: bytes) -> Any:
        socket.send(payload)
        return socket.recv()

    with _connected("Req0", address) as socket:
        yield ask


def serve_messages(address: Address, control: Control) -> None:
    """Count what comes."""
    _serve(
        "Pull0",
        address,
        control,
        lambda socket: control.handled(socket.recv()),
        recv_buffer_size=_QUEUE,
    )


@contextmanager
def send(address: Address) -> Iterator[Send]:
    """PUSH and PULL."""
    with _connected("Push0", address, send_buffer_size=_QUEUE) as socket:
        yield socket.send


@contextmanager
def connect_once(address: Address) -> Iterator[Once]:
    """A new REQ socket each time."""

    def once() -> None:
        with _connected("Req0", address) as socket:
            socket.send(PAYLOAD)
            socket.recv()

    yield once


def crowd(address: Address, control: Control, count: str) -> None:
    """REQ sockets that asked once."""
    gather(address, control, int(count), partial(_join, address))


def _join(address: Address) -> Any:
    socket = _connected("Req0", address)
    socket.send(PAYLOAD)
    socket.recv()
    return socket
