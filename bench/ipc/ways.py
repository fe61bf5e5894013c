"""Who talks how: the rows of the benchmarks between processes, over each network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from bench.ipc import bare, connection, nng_sockets, ours, streams, zenoh_sessions, zmq_sockets
from bench.ipc.address import Address, Network
from bench.ipc.certificates import missing_certificates
from bench.ipc.measure import Once
from bench.ipc.spawn import Serve, Way
from bench.measure import Call, Send, SendBatch

T = TypeVar("T")


@dataclass(frozen=True)
class Row(Generic[T]):
    """A way and its name.

    Attributes:
        name: in the tables.
        way: how to talk.
        missing: why it cannot be measured here, or "".
        crowd: what peers do that only connect, where that is measured.
        most: how many of them the library takes in good time.
    """

    name: str
    way: Way[T]
    missing: str
    crowd: Serve = lambda *_: None
    most: int = sys.maxsize


class _Rows(Generic[T]):
    """Collects what goes over a network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._missing = missing_certificates if network == "tls" else ""
        self.rows: list[Row[T]] = []

    def add(
        self,
        library: Any,
        kind: str,
        serve: Serve,
        connect: Callable[[Address], AbstractContextManager[T]],
        *arguments: str,
        crowd: Serve = lambda *_: None,
        only: tuple[Network, ...] = ("ipc", "tcp", "tls"),
    ) -> None:
        """A row named after the library, a module of this package, and the kind."""
        network = self._network
        if network in only:
            name = f"{library.title(network)}{kind}"
            way = Way(serve, connect, arguments, network)
            missing = library.missing(network) or self._missing
            most = _MOST.get((library, network), sys.maxsize)
            self.rows.append(Row(name, way, missing, crowd, most))


_MOST: dict[tuple[Any, Network], int] = {
    (nng_sockets, "tls"): 1000,
    (streams, "tls"): 1000,
    (zenoh_sessions, "tcp"): 300,
    (zenoh_sessions, "tls"): 300,
}
_PLAIN: tuple[Network, ...] = ("ipc", "tcp")
_AHEAD = 1 << 16
_TCP: tuple[Network, ...] = ("tcp", "tls")


def calls(network: Network) -> list[Row[Call]]:
    """A small payload there and back."""
    rows = _Rows[Call](network)
    zmq = zmq_sockets
    rows.add(ours, " request", ours.serve_calls, ours.call)
    rows.add(ours, ", raw delegate", ours.serve_raw_calls, ours.call)
    rows.add(zmq, " REQ/REP", zmq.serve_calls, partial(zmq.call, "REQ"), "REP")
    rows.add(zmq, " PAIR", zmq.serve_calls, partial(zmq.call, "PAIR"), "PAIR")
    rows.add(nng_sockets, " REQ/REP", nng_sockets.serve_calls, nng_sockets.call)
    rows.add(connection, "", connection.serve_calls, connection.call, only=_PLAIN)
    rows.add(streams, "", streams.serve_calls, streams.call, only=_TCP)
    zenoh = zenoh_sessions
    rows.add(zenoh, " get", zenoh.serve_calls, zenoh.call, only=_TCP)
    rows.add(zenoh, " put", zenoh.serve_echo, zenoh.call_by_publishing, only=("tcp",))
    rows.add(bare, "", bare.serve_calls, bare.call)
    return rows.rows


def sends(network: Network) -> list[Row[Send]]:
    """Small payloads one way, one by one."""
    rows = _Rows[Send](network)
    rows.add(ours, " send", ours.serve_messages, ours.send)
    rows.add(zmq_sockets, " PUSH/PULL", zmq_sockets.serve_messages, zmq_sockets.send)
    rows.add(nng_sockets, " PUSH/PULL", nng_sockets.serve_messages, nng_sockets.send)
    rows.add(connection, "", connection.serve_messages, connection.send, only=_PLAIN)
    rows.add(streams, "", streams.serve_messages, streams.send, only=_TCP)
    zenoh = zenoh_sessions
    rows.add(zenoh, " put", zenoh.serve_messages, zenoh.send, only=_TCP)
    rows.add(bare, "", bare.serve_messages, bare.send)
    return rows.rows


def sends_ahead(network: Network) -> list[Row[Send]]:
    """As :func:`sends`, and with more that may be under way to a port of portkit's."""
    rows = _Rows[Send](network)
    rows.add(ours, f", queue_limit={_AHEAD}", ours.serve_messages, ours.send, str(_AHEAD))
    usual = sends(network)
    return [usual[0], *rows.rows, *usual[1:]]


def batches(network: Network) -> list[Row[SendBatch]]:
    """Small payloads one way, many at a time."""
    rows = _Rows[SendBatch](network)
    zmq = zmq_sockets
    rows.add(ours, " send_many", ours.serve_messages, ours.send_many)
    rows.add(zmq, ", multipart", zmq.serve_multipart, zmq.send_multipart)
    rows.add(zmq, ", one by one", zmq.serve_messages, zmq.send_each)
    rows.add(connection, ", lists", connection.serve_lists, connection.send_lists, only=_PLAIN)
    rows.add(streams, "", streams.serve_messages, streams.send_batch, only=_TCP)
    rows.add(bare, "", bare.serve_messages, bare.send_batch)
    return rows.rows


def large(network: Network) -> list[Row[Call]]:
    """Large data, which is acknowledged."""
    rows = _Rows[Call](network)
    zmq = zmq_sockets
    rows.add(ours, " request", ours.serve_large, ours.call)
    rows.add(ours, ", written in place", ours.serve_large, ours.call_in_place, only=("ipc",))
    copying = partial(zmq.call_large, copy=True)
    rows.add(zmq, " REQ/REP", zmq.serve_large, copying, "copy")
    rows.add(zmq, ", copy=False", zmq.serve_large, partial(zmq.call_large, copy=False), "")
    rows.add(nng_sockets, " REQ/REP", nng_sockets.serve_acknowledging, nng_sockets.call)
    rows.add(connection, "", connection.serve_large, connection.call, only=_PLAIN)
    rows.add(streams, "", streams.serve_acknowledging, streams.call, only=_TCP)
    zenoh = zenoh_sessions
    rows.add(zenoh, " get", zenoh.serve_acknowledging, zenoh.call, only=_TCP)
    rows.add(bare, "", bare.serve_large, bare.call_large)
    return rows.rows


def connects(network: Network) -> list[Row[Once]]:
    """Connecting and getting an answer."""
    rows = _Rows[Once](network)
    for library, kind, serve in _MANY:
        rows.add(library, kind, serve, library.connect_once, only=_networks(library))
    return rows.rows


def crowds(network: Network) -> list[Row[Call]]:
    """A small payload there and a short one back, while others are connected."""
    rows = _Rows[Call](network)
    for library, kind, serve in _MANY:
        connect = partial(zmq_sockets.call, "REQ") if library is zmq_sockets else library.call
        only = _networks(library)
        rows.add(library, kind, serve, connect, crowd=library.crowd, only=only)
    return rows.rows


_MANY: tuple[tuple[Any, str, Serve], ...] = (
    (ours, "", ours.serve_many),
    (zmq_sockets, " REQ/ROUTER", zmq_sockets.serve_many),
    (nng_sockets, " REQ/REP", nng_sockets.serve_acknowledging),
    (connection, "", connection.serve_many),
    (streams, "", streams.serve_acknowledging),
    (zenoh_sessions, "", zenoh_sessions.serve_acknowledging),
    (bare, "", bare.serve_many),
)


def _networks(library: Any) -> tuple[Network, ...]:
    if library is connection:
        return _PLAIN
    return _TCP if library in (streams, zenoh_sessions) else ("ipc", "tcp", "tls")
