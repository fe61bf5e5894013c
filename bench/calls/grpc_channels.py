"""gRPC over a Unix socket or TCP: handlers of its own generic kind, so that no code is generated.

Numbers are packed by ``struct``, data is itself, and a structure is JSON: less than protobuf would
do. Iterators use the channel option that spares them a thread.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.calls.work import Client, Work
from bench.ipc.address import Address, Network
from bench.ipc.server import Control
from bench.ipc.spawn import PATIENCE
from bench.optional import missing as missing_module
from bench.optional import optional

grpc = optional("grpc")

_SERVICE = "work"
_WORKERS = 8
_PAIR = struct.Struct("<qq")
_NUMBER = struct.Struct("<q")
_FLOAT = struct.Struct("<d")


def title(_: Network) -> str:
    """What the rows call it."""
    return "gRPC"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return missing_module(grpc)


def _as_json(structure: Any) -> bytes:
    return json.dumps(structure).encode()


def _first(packer: struct.Struct, data: bytes) -> Any:
    return packer.unpack(data)[0]


_unpack_number = partial(_first, _NUMBER)
_unpack_float = partial(_first, _FLOAT)


def _pack_pair(pair: tuple[int, int]) -> bytes:
    return _PAIR.pack(*pair)


def serve(address: Address, control: Control) -> None:
    """Serve everybody."""
    work = Work(control)
    unary = grpc.unary_unary_rpc_method_handler
    handlers = {
        "add": unary(lambda pair, _: work.add(*pair), _PAIR.unpack, _NUMBER.pack),
        "echo": unary(lambda data, _: work.echo(data)),
        "settle": unary(lambda order, _: work.settle(order), json.loads, _FLOAT.pack),
        "numbers": grpc.unary_stream_rpc_method_handler(
            lambda count, _: work.numbers(count), _unpack_number, _NUMBER.pack
        ),
    }
    server = grpc.server(
        ThreadPoolExecutor(_WORKERS),
        handlers=(grpc.method_handlers_generic_handler(_SERVICE, handlers),),
    )
    server.add_insecure_port(_target(address))
    server.start()
    control.ready()
    server.wait_for_termination()


def _target(address: Address) -> str:
    return f"{address.host}:{address.port}" if address.port else f"unix:{address.path}"


@contextmanager
def connect(address: Address) -> Iterator[Client]:
    """A channel."""
    option = optional("grpc.experimental").ChannelOptions.SingleThreadedUnaryStream
    with grpc.insecure_channel(_target(address), options=((option, 1),)) as channel:

        def method(kind: Callable[..., Any], name: str, pack: Any, unpack: Any) -> Any:
            return partial(kind(f"/{_SERVICE}/{name}", pack, unpack), timeout=PATIENCE)

        add = method(channel.unary_unary, "add", _pack_pair, _unpack_number)
        yield Client(
            add=lambda left, right: add((left, right)),
            echo=method(channel.unary_unary, "echo", None, None),
            settle=method(channel.unary_unary, "settle", _as_json, _unpack_float),
            numbers=method(channel.unary_stream, "numbers", _NUMBER.pack, _unpack_number),
        )
