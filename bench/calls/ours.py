"""portkit's distributed objects, over message ports or socket ports."""

from __future__ import annotations

from contextlib import AbstractContextManager

from bench.calls.work import Client
from bench.ipc.address import Address, Network
from bench.ipc.server import Control
from bench.optional import optional

remote = optional("portkit.remote")


def title(_: Network) -> str:
    """What the rows call it."""
    return "portkit"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return "" if remote else "not part of this version"


def serve(_: Address, __: Control) -> None:
    """Serve everybody."""
    raise NotImplementedError


def connect(_: Address) -> AbstractContextManager[Client]:
    """A proxy of the root object."""
    raise NotImplementedError


def connect_listening(_: Address) -> AbstractContextManager[Client]:
    """As :func:`connect`, with an object that is called back."""
    raise NotImplementedError
