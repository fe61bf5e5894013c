"""Pyro5 over a Unix socket or TCP.

Its daemon has a thread for each connection, as by default. TCP_NODELAY, which it leaves off, is
set, and so is that serpent keeps bytes as they are. The serializer is its default, serpent, or
marshal, its quickest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

from bench.background import background
from bench.calls.work import Bell, Client, Work
from bench.ipc.address import Address, Network, new_address
from bench.ipc.server import Control
from bench.ipc.spawn import PATIENCE
from bench.optional import missing as missing_module
from bench.optional import optional

api = optional("Pyro5.api")

_NAME = "work"


def title(_: Network) -> str:
    """What the rows call it."""
    return "Pyro5"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return missing_module(api)


class LockedWork(Work):
    """One-way calls come on a thread each, and what is called back as text: marshal takes that."""

    def __init__(self, control: Control) -> None:
        super().__init__(control)
        self._lock = Lock()

    def listen(self, bell: str) -> None:
        """Keep a proxy."""
        super().listen(api.Proxy(bell))

    def note(self, data: bytes) -> None:
        """Count it."""
        with self._lock:
            super().note(data)


def serve(address: Address, control: Control, serializer: str) -> None:
    """Serve everybody."""
    _configure(serializer)
    with _daemon(address) as daemon:
        api.expose(Work)
        api.oneway(LockedWork.note)
        api.expose(LockedWork)
        daemon.register(LockedWork(control), _NAME)
        control.ready()
        daemon.requestLoop()


def _configure(serializer: str) -> None:
    api.config.SERIALIZER = serializer
    api.config.SERPENT_BYTES_REPR = True
    api.config.SOCK_NODELAY = True
    api.config.COMMTIMEOUT = PATIENCE


def _daemon(address: Address) -> Any:
    if address.port:
        return api.Daemon(host=address.host, port=address.port)
    return api.Daemon(unixsocket=address.path)


@contextmanager
def _proxy(address: Address, serializer: str) -> Iterator[Any]:
    _configure(serializer)
    where = f"{address.host}:{address.port}" if address.port else f"./u:{address.path}"
    with api.Proxy(f"PYRO:{_NAME}@{where}") as proxy:
        proxy._pyroBind()
        yield proxy


@contextmanager
def connect(address: Address, *, serializer: str) -> Iterator[Client]:
    """A proxy; it is its thread's own."""
    with _proxy(address, serializer) as proxy:
        yield _client(proxy)


@contextmanager
def connect_listening(address: Address, *, serializer: str) -> Iterator[Client]:
    """As :func:`connect`, with a daemon on a thread of its own for what is called back."""
    with ExitStack() as stack:
        here = stack.enter_context(new_address(address.network))
        daemon = stack.enter_context(_daemon(here))
        bell = api.expose(Bell)()
        uri = daemon.register(bell)
        stack.enter_context(background(daemon.requestLoop, daemon.shutdown))
        proxy = stack.enter_context(_proxy(address, serializer))
        proxy.listen(str(uri))
        yield _client(proxy)


def _client(proxy: Any) -> Client:
    return Client(proxy.add, proxy.echo, proxy.settle, proxy.numbers, proxy.ring, proxy.note)
