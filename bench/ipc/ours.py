"""portkit between processes: message ports, served by a run loop."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.measure import PAYLOAD, Call, Send, SendBatch
from portkit import Port, PortMessage, RunLoop, registry

missing_message_port = "" if "message" in registry.schemes() else "not part of this version"


def port_class() -> Any:
    """``MessagePort``."""
    return registry.transport("message").port_class


def serve(address: str, control: Control, delegate: Any) -> None:
    """Serve a port of that name until this process is to end."""
    loop = RunLoop.current()
    with port_class()(address, delegate) as port:
        loop.add_port(port)
        control.ready(stop=partial(loop.perform, loop.stop))
        loop.run()


@contextmanager
def _remote(address: str) -> Iterator[Any]:
    """A handle, and its link: that would outlive the handle, as it serves whole processes."""
    host = importlib.import_module("portkit_transports.message.host").host()
    with port_class().remote(address) as port:
        yield port
    for link in host.node.links:
        link.close()


def serve_calls(address: str, control: Control) -> None:
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


def serve_raw_calls(address: str, control: Control) -> None:
    """Answer by what a raw delegate returns."""
    serve(address, control, _RawAnswer())


@contextmanager
def call(address: str) -> Iterator[Call]:
    """``request``."""
    with _remote(address) as port:
        yield port.request


def serve_large(address: str, control: Control) -> None:
    """Look at what comes without copying it, and say so."""

    def receive(message: PortMessage) -> bytes:
        view = message.view
        assert view is not None
        touch(view)
        return ACK

    serve(address, control, receive)


@contextmanager
def call_in_place(address: str) -> Iterator[Call]:
    """``request`` with a buffer that was written in place: its first and last byte."""

    def ask(payload: bytes) -> Any:
        buffer = port.allocate(len(payload))
        buffer[0] = buffer[-1] = 1
        return port.request(buffer)

    with _remote(address) as port:
        yield ask


def serve_messages(address: str, control: Control) -> None:
    """Count what comes."""
    serve(address, control, control.handled)


@contextmanager
def send(address: str) -> Iterator[Send]:
    """``send``."""
    with _remote(address) as port:
        yield port.send


@contextmanager
def send_many(address: str) -> Iterator[SendBatch]:
    """``send_many``."""
    with _remote(address) as port:
        yield port.send_many


def serve_many(address: str, control: Control, *_: str) -> None:
    """Answer everybody."""
    serve(address, control, lambda _: ACK)


@contextmanager
def connect_once(address: str) -> Iterator[Once]:
    """A new handle and a new link each time.

    The process has a name of its own meanwhile, and so keeps portkit's service thread, as pyzmq
    keeps its context: what is started once is not a connection's.
    """

    def once() -> None:
        with _remote(address) as port:
            port.request(PAYLOAD)

    with port_class()(f"{address}-client"):
        yield once


def crowd(address: str, control: Control, count: str) -> None:
    """Processes that asked once, and so have a link."""
    port_class()  # imported once, not by each of them
    gather(control, int(count), partial(_join, address))


def _join(address: str) -> Port:
    port: Port = port_class().remote(address)
    port.request(PAYLOAD)
    return port
