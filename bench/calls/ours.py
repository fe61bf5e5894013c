"""portkit's distributed objects, over message ports or socket ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from bench.calls import payloads
from bench.calls.payloads import Order
from bench.calls.work import ORDER, Bell, Client, Work
from bench.ipc import ours as raw
from bench.ipc.address import Address, Network
from bench.ipc.server import Control
from portkit import RunLoop
from portkit.remote import Connection, oneway


class Ringing(Protocol):
    """What is called back."""

    def ring(self, number: int) -> int:
        """As :meth:`Bell.ring`."""
        ...


class Working(Protocol):
    """What is served: see :class:`Work`."""

    def add(self, left: int, right: int) -> int:
        """As there."""
        ...

    def echo(self, data: bytes) -> bytes:
        """As there."""
        ...

    def settle(self, order: Order) -> float:
        """As there."""
        ...

    def numbers(self, count: int) -> Iterator[int]:
        """As there."""
        ...

    def listen(self, bell: Ringing) -> None:
        """As there."""
        ...

    def ring(self, number: int) -> int:
        """As there."""
        ...

    @oneway
    def note(self, data: bytes) -> None:
        """As there."""
        ...


class _Work(Work):
    """A structure comes as the model it was."""

    def settle(self, order: Any) -> float:
        """What the lines come to."""
        return payloads.total(order)


def title(_: Network) -> str:
    """What the rows call it."""
    return "portkit"


def missing(network: Network) -> str:
    """Why it cannot be measured, or ""."""
    return raw.missing(network)


def serve(address: Address, control: Control) -> None:
    """Serve everybody."""
    loop = RunLoop.current()
    port = raw.port_class(address.network)(address.of_socket)
    with Connection.serve(port, _Work(control), Working):
        control.ready(stop=partial(loop.perform, loop.stop))
        loop.run()


@contextmanager
def _root(address: Address) -> Iterator[Working]:
    with raw.remote(address) as port, Connection.to(port) as connection:
        yield connection.root(Working)


def _client(root: Working) -> Client:
    return Client(
        root.add, root.echo, root.settle, root.numbers, root.ring, root.note, Order(**ORDER)
    )


@contextmanager
def connect(address: Address) -> Iterator[Client]:
    """A proxy of the root object."""
    with _root(address) as root:
        yield _client(root)


@contextmanager
def connect_listening(address: Address) -> Iterator[Client]:
    """As :func:`connect`; who waits for an answer serves what is called back meanwhile."""
    with _root(address) as root:
        root.listen(Bell())
        yield _client(root)
