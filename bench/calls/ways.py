"""Who calls how: the rows of the benchmarks of remote calls, over each network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.calls import grpc_channels, managers, ours, pyro, rpyc_services
from bench.calls.work import Client
from bench.ipc.address import Network
from bench.ipc.spawn import Way

_NONE = "has nothing like it"


@dataclass(frozen=True)
class Row:
    """A library and how it is called.

    Attributes:
        name: in the tables.
        way: how to call.
        missing: why it cannot be measured here, or "".
        shared: whether threads that call at once share a client; else each has its own.
    """

    name: str
    way: Way[Client]
    missing: str
    shared: bool


def plain(network: Network) -> list[Row]:
    """Everybody, calling and getting an answer."""
    return [
        _row(ours, network, shared=True),
        *_pyro(network),
        _row(rpyc_services, network),
        _row(grpc_channels, network, shared=True),
        _row(managers, network, shared=True),
    ]


def listening(network: Network) -> list[Row]:
    """Those that can be called back."""
    return [
        _row(ours, network, "connect_listening"),
        *_pyro(network, "connect_listening"),
        _row(rpyc_services, network, "connect_listening"),
        _row(grpc_channels, network, lacking=True),
        _row(managers, network, lacking=True),
    ]


def one_way(network: Network) -> list[Row]:
    """Those that need not wait for an answer."""
    return [
        _row(ours, network),
        *_pyro(network),
        _row(rpyc_services, network),
        _row(grpc_channels, network, lacking=True),
        _row(managers, network, lacking=True),
    ]


def _row(
    library: Any,
    network: Network,
    connect: str = "connect",
    *,
    shared: bool = False,
    lacking: bool = False,
) -> Row:
    way = Way[Client](library.serve, getattr(library, connect), (), network)
    missing = library.missing(network) or (_NONE if lacking else "")
    return Row(library.title(network), way, missing, shared)


def _pyro(network: Network, connect: str = "connect") -> list[Row]:
    return [
        Row(
            f"{pyro.title(network)}, {serializer}",
            Way(
                pyro.serve,
                partial(getattr(pyro, connect), serializer=serializer),
                (serializer,),
                network,
            ),
            pyro.missing(network),
            shared=False,
        )
        for serializer in ("serpent", "marshal")
    ]
