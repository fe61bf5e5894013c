"""Finding the addresses of a host, without waiting."""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import chain, zip_longest
from threading import Thread
from typing import Any, NamedTuple, TypeAlias

from portkit import _thread
from portkit.errors import LoopEndedError, NameNotFoundError, PortError, TransportError
from portkit.runloop import RunLoop


class Place(NamedTuple):
    """Where to connect to.

    Attributes:
        family: of addresses.
        address: as ``socket.connect`` takes it.
    """

    family: socket.AddressFamily
    address: tuple[Any, ...]


Resolved: TypeAlias = Callable[["list[Place] | PortError"], object]


def resolve(host: str, port: int, loop: RunLoop, resolved: Resolved) -> None:
    """Have ``resolved`` called on ``loop`` with the places in the order to try them, or an error.

    A name is looked up on a thread of its own, as the system's resolver may take long.
    """
    try:
        places = _places(host, port, socket.AI_NUMERICHOST)
    except (OSError, ValueError):  # no address; what is no name either is found there
        look_up = Thread(
            target=_look_up, args=(host, port, loop, resolved), name="portkit lookup", daemon=True
        )
        try:
            look_up.start()
        except RuntimeError as error:  # the system has no more threads
            why = f"{error}; end what is not needed, or give its IP address"
            loop.perform(resolved, TransportError(f"the host {host!r} is not looked up: {why}"))
    else:
        loop.perform(resolved, places)


def _look_up(host: str, port: int, loop: RunLoop, resolved: Resolved) -> None:
    found: list[Place] | PortError
    try:
        found = _places(host, port, 0)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        found = NameNotFoundError(
            f"the host {host!r} cannot be found: {why}; check the name, or give its IP address"
        )
    try:
        loop.perform(resolved, found)
    except LoopEndedError:
        pass  # nobody waits for it any more
    finally:
        _thread.end_current()


def _places(host: str, port: int, flags: int) -> list[Place]:
    found = [
        Place(family, address)
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=flags
        )
    ]
    return interleaved(found)


def interleaved(places: list[Place]) -> list[Place]:
    """One of each family in turn, beginning with the family of the first (RFC 8305, section 4)."""
    first = [place for place in places if place.family == places[0].family]
    others = [place for place in places if place.family != places[0].family]
    turns = chain.from_iterable(zip_longest(first, others))
    return [place for place in turns if place is not None]
