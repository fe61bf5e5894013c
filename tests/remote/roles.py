"""What the other sides of these tests do: functions that they are told to call."""

from __future__ import annotations

import os
from typing import Any

from portkit.message import Sender
from portkit.remote import Connection, Service
from portkit.remote.interface import interface_of
from portkit.remote.options import Statistics
from tests.remote.desk import Desk, DeskServer
from tests.remote.kinds import Echo, EchoServer
from tests.support import PATIENCE
from tests.transports.processes.roles import Here

for protocol in (Desk, Echo):
    interface_of(protocol)  # once, in the process that forks the others: it takes the time of ten

services: dict[str, Service] = {}


def serve(name: str, options: dict[str, Any] | None = None) -> None:
    """Serve a desk at a port of that name."""
    given = {"timeout": PATIENCE, **(options or {})}
    services[name] = Connection.serve(Here.way.open(name), DeskServer(), Desk, **given)


def serve_echo(name: str) -> None:
    """Serve what gives back all that it gets."""
    services[name] = Connection.serve(Here.way.open(name), EchoServer(), Echo, timeout=PATIENCE)


def end() -> None:
    """End what is served here."""
    while services:
        services.popitem()[1].invalidate()


def invalidate(name: str) -> None:
    """End one service."""
    services.pop(name).invalidate()


def connections(name: str) -> int:
    """How many callers a service has."""
    return len(services[name].connections)


def statistics(name: str) -> list[Statistics]:
    """Of a service's connections."""
    return [connection.statistics() for connection in services[name].connections]


def refused(name: str) -> int:
    """How many callers were not let in."""
    return services[name].refused


def replace_root(name: str) -> None:
    """Serve a new object from now on."""
    services[name].root = DeskServer()


def collect_calls(name: str) -> list[int]:
    """The notes of the desk there."""
    root = services[name].root
    assert isinstance(root, DeskServer)
    return root.notes()


def process() -> int:
    """Which this is."""
    return os.getpid()


_held: list[Any] = []


def hold(name: str) -> None:
    """Connect to a desk, and hold things of it."""
    connection = Connection.to(Here.way.remote(name), timeout=PATIENCE)
    desk = connection.root(Desk)
    _held.extend([connection, desk, desk.item("a"), desk.numbers(1000)])


def let_go() -> None:
    """End that."""
    connection, *_ = _held
    _held.clear()
    connection.invalidate()


_senders: list[Sender | None] = []


def serve_guarded(name: str, secret: str | bytes) -> None:
    """Serve a desk to those who know a secret."""
    known = secret.encode() if isinstance(secret, str) else secret

    def authenticate(sender: Sender | None, credentials: bytes) -> bool:
        _senders.append(sender)
        return credentials == known

    _senders.clear()
    services[name] = Connection.serve(
        Here.way.open(name), DeskServer(), Desk, authenticate=authenticate, timeout=PATIENCE
    )


def senders() -> list[Sender | None]:
    """Who was asked about."""
    return _senders
