"""portkit between processes: message ports or socket ports, served by a run loop."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from bench.ipc.address import Address, Network
from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send, SendBatch
from portkit import Port, PortMessage, RunLoop, registry
from portkit.link import service


def missing(network: Network) -> str:
    """Why it cannot be measured, or ""."""
    return "" if _SCHEMES[network] in registry.schemes() else "not part of this version"


def title(network: Network) -> str:
    """What the rows call it."""
    return "portkit TLS" if network == "tls" else "portkit"


_MANY = 1 << 16
_SCHEMES: dict[Network, str] = {"ipc": "message", "tcp": "socket", "tls": "socket"}


def port_class(network: Network = "ipc") -> Any:
    """``MessagePort`` or ``SocketPort``."""
    return registry.transport(_SCHEMES[network]).port_class


def _options(address: Address, name: str) -> dict[str, Any]:
    return {"tls": _tls(address.path, name)} if address.network == "tls" else {}


@cache
def _tls(folder: str, name: str) -> Any:
    """Kept, as a program keeps it: then the files are read once."""
    return importlib.import_module("portkit").TLSConfig.from_folder(folder, name)


def serve(address: Address, control: Control, delegate: Any, **options: Any) -> None:
    """Serve a port at that address until this process is to end."""
    loop = RunLoop.current()
    options |= _options(address, "server")
    with port_class(address.network)(address.of_socket, delegate, **options) as port:
        loop.add_port(port)
        control.ready(stop=partial(loop.perform, loop.stop))
        loop.run()


def _handle(address: Address, **options: Any) -> Any:
    where = (address.host, address.port) if address.port else (address.path,)
    options |= _options(address, "client")
    return port_class(address.network).remote(*where, **options)


@contextmanager
def remote(address: Address) -> Iterator[Any]:
    """A handle, and its link. That of a message port outlives it, as it serves whole processes."""
    with _handle(address) as port:
        yield port
    if address.network == "ipc":
        host = importlib.import_module("portkit_transports.message.host").host()
        for link in host.node.links:
            link.close()


def serve_calls(address: Address, control: Control) -> None:
    """Answer by what the delegate returns."""

    def answer(message: PortMessage) -> bytes:
        return message.data or b""

    serve(address, control, answer)


class _RawAnswer:
    """A delegate for which no message object is made."""

    def handle_raw_message(
        self, port: Port, msgid: int, components: tuple[Any, ...], reply_port: Port | None
    ) -> bytes:
        data: bytes = components[0]
        return data


def serve_raw_calls(address: Address, control: Control) -> None:
    """Answer by what a raw delegate returns."""
    serve(address, control, _RawAnswer())


@contextmanager
def call(address: Address) -> Iterator[Call]:
    """``request``."""
    with remote(address) as port:
        yield port.request


def serve_large(address: Address, control: Control) -> None:
    """Look at what comes without copying it, and say so."""

    def receive(message: PortMessage) -> bytes:
        view = message.view
        assert view is not None
        touch(view)
        return ACK

    serve(address, control, receive)


@contextmanager
def call_in_place(address: Address) -> Iterator[Call]:
    """``request`` with a buffer that was written in place: its first and last byte."""

    def ask(payload: bytes) -> Any:
        buffer = port.allocate(len(payload))
        buffer[0] = buffer[-1] = 1
        return port.request(buffer)

    with remote(address) as port:
        yield ask


def serve_messages(address: Address, control: Control, queue_limit: str = "") -> None:
    """Count what comes."""
    options = {"queue_limit": int(queue_limit)} if queue_limit else {}
    serve(address, control, control.handled, **options)


@contextmanager
def send(address: Address) -> Iterator[Send]:
    """``send``."""
    with remote(address) as port:
        yield port.send


@contextmanager
def send_many(address: Address) -> Iterator[SendBatch]:
    """``send_many``."""
    with remote(address) as port:
        yield port.send_many


def serve_many(address: Address, control: Control, *_: str) -> None:
    """Answer everybody, more of them than are allowed by default."""
    options = {}
    if address.network != "ipc":
        settings = importlib.import_module("portkit_transports.socket.port").SETTINGS
        options["settings"] = settings._replace(max_links=_MANY, max_links_per_process=_MANY)
    serve(address, control, lambda _: ACK, **options)


@contextmanager
def connect_once(address: Address) -> Iterator[Once]:
    """A new handle and a new link each time.

    portkit's service thread is kept meanwhile, as pyzmq keeps its context: what is started once is
    not a connection's.
    """

    def once() -> None:
        with remote(address) as port:
            port.request(PAYLOAD)

    keeper = object()
    service.join(keeper)
    try:
        yield once
    finally:
        service.leave(keeper)


def crowd(address: Address, control: Control, count: str) -> None:
    """Processes that asked once, and so have a link; over TCP, handles that have one each."""
    port_class(address.network)  # imported once, not by each of them
    gather(address, control, int(count), partial(_join, address, itertools.count(1)))


def _join(address: Address, numbers: Iterator[int]) -> Port:
    # Handles got with the same arguments share a link.
    apart = {} if address.network == "ipc" else {"connect_timeout": PATIENCE + next(numbers)}
    port: Port = _handle(address, **apart)
    port.request(PAYLOAD)
    return port
