"""rpyc over a Unix socket or TCP.

Its server has a thread for each connection, and functions are looked up once: each look-up is a
round trip. What it does not copy it passes by reference, so a structure goes as tuples, which it
copies. An iterator is read by its ``buffiter``.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from bench.calls.work import ORDER, Bell, Client, Work
from bench.ipc.address import Address, Network
from bench.ipc.server import Control
from bench.ipc.spawn import PATIENCE
from bench.optional import missing as missing_module
from bench.optional import optional

rpyc = optional("rpyc")

_CONFIG = {"sync_request_timeout": PATIENCE}
_ANSWERS_READ = 32
"""After so many calls whose answers nobody waits for, those that are there are read."""


def title(_: Network) -> str:
    """What the rows call it."""
    return "rpyc"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return missing_module(rpyc)


def serve(address: Address, control: Control) -> None:
    """Serve everybody."""
    work = _Work(control)
    service = type(
        "Service", (rpyc.Service,), {f"exposed_{name}": getattr(work, name) for name in _NAMES}
    )
    where = (
        {"hostname": address.host, "port": address.port}
        if address.port
        else {"socket_path": address.path}
    )
    server = rpyc.ThreadedServer(service, protocol_config=_CONFIG, **where)
    if address.port:
        server.listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # what it accepts inherits it
    server.listener.listen()  # it does so again when it starts, and then does not return
    control.ready()
    server.start()


_NAMES = ("add", "echo", "settle", "numbers", "listen", "ring", "note")


class _Work(Work):
    """A structure comes as tuples, what is called back as a function."""

    def settle(self, order: Any) -> float:
        """What the lines come to."""
        return float(sum(quantity * price for _, quantity, price in order[-1]))

    def listen(self, bell: Any) -> None:
        """Keep it."""
        self._bell = bell


@contextmanager
def connect(address: Address) -> Iterator[Client]:
    """A connection."""
    with _connected(address) as connection:
        yield _client(connection)


@contextmanager
def connect_listening(address: Address) -> Iterator[Client]:
    """As :func:`connect`; who waits for an answer serves what is called back meanwhile."""
    with _connected(address) as connection:
        connection.root.listen(Bell().ring)
        yield _client(connection)


def _connected(address: Address) -> Any:
    if address.port:
        stream = rpyc.SocketStream.connect(address.host, address.port, nodelay=True)
    else:
        stream = rpyc.SocketStream.unix_connect(address.path)
    return rpyc.connect_stream(stream, config=_CONFIG)


def _client(connection: Any) -> Client:
    root = connection.root
    return Client(
        root.add,
        root.echo,
        root.settle,
        _buffered(root.numbers),
        root.ring,
        _one_way(connection, root.note),
        _as_tuples(ORDER),
    )


def _buffered(numbers: Callable[[int], Any]) -> Callable[[int], Iterable[int]]:
    buffiter = importlib.import_module("rpyc.utils.helpers").buffiter
    return lambda count: buffiter(numbers(count))


def _one_way(connection: Any, note: Any) -> Callable[[bytes], object]:
    """Calls of which the answers, which there are, are read and dropped now and then."""
    call = rpyc.async_(note)
    turns = itertools.cycle(range(_ANSWERS_READ))

    def note_one_way(data: bytes) -> None:
        call(data)
        if next(turns) == 0:
            while connection.poll():
                pass

    return note_one_way


def _as_tuples(structure: Any) -> Any:
    if isinstance(structure, dict):
        return tuple(map(_as_tuples, structure.values()))
    return tuple(map(_as_tuples, structure)) if isinstance(structure, list) else structure
