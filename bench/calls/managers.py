"""``multiprocessing.managers`` over a Unix socket or TCP: pickle, and a thread for each caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import managers
from typing import Any

from bench.calls.work import Client, Work
from bench.ipc.address import Address, Network
from bench.ipc.server import Control

_KEY = b"bench"
_NAMES = ("add", "echo", "settle", "numbers")


class _Manager(managers.BaseManager):
    """Has one object."""


def title(_: Network) -> str:
    """What the rows call it."""
    return "multiprocessing manager"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return ""


def serve(address: Address, control: Control) -> None:
    """Serve everybody."""
    work = Work(control)
    _register(lambda: work)
    server = _Manager(address.of_socket, _KEY).get_server()
    control.ready()
    server.serve_forever()


def _register(make: Any = None) -> None:
    proxy: Any = vars(managers)["IteratorProxy"]  # type checkers do not know it
    _Manager.register("Iterator", proxytype=proxy, create_method=False)
    _Manager.register("work", make, exposed=_NAMES, method_to_typeid={"numbers": "Iterator"})


@contextmanager
def connect(address: Address) -> Iterator[Client]:
    """A proxy, which connects once for each thread."""
    _register()
    manager: Any = _Manager(address.of_socket, _KEY)
    manager.connect()
    work = manager.work()
    yield Client(work.add, work.echo, work.settle, work.numbers)
