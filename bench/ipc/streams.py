"""asyncio streams over TCP, plain and by ssl: each message after its length, as one would frame it.

Client and server are coroutines. The client repeats what is measured within its loop, as
``run_until_complete`` for each message would cost more than the message.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import perf_counter_ns
from typing import TypeAlias

from bench.ipc.address import Address, Network
from bench.ipc.bare import client_context, connected, tls_context
from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Repeating

_LENGTH = struct.Struct("=Q")
_SMALL = 1 << 16
_Streams: TypeAlias = "tuple[asyncio.StreamReader, asyncio.StreamWriter]"


def title(network: Network) -> str:
    """What the rows call it."""
    return "asyncio streams, ssl" if network == "tls" else "asyncio streams"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return ""


async def _receive(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


def _write(writer: asyncio.StreamWriter, payload: bytes) -> None:
    header = _LENGTH.pack(len(payload))
    if len(payload) < _SMALL:
        writer.write(header + payload)
    else:
        writer.writelines((header, payload))


def _serve(
    address: Address, control: Control, turn: Callable[..., Awaitable[None]], *arguments: object
) -> None:
    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                await turn(reader, writer, *arguments)
        writer.close()

    async def main() -> None:
        context = tls_context(address, "server") if address.network == "tls" else None
        server = await asyncio.start_server(serve_one, *_host_and_port(address), ssl=context)
        control.ready()
        await server.serve_forever()

    asyncio.run(main())


def _host_and_port(address: Address) -> tuple[str, int]:
    return address.host, address.port


async def _open(address: Address, context: ssl.SSLContext | None) -> _Streams:
    name = None if context is None else "server"
    return await asyncio.open_connection(
        *_host_and_port(address), ssl=context, server_hostname=name
    )


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@contextmanager
def _connected(address: Address) -> Iterator[tuple[asyncio.Runner, _Streams]]:
    with asyncio.Runner() as runner:
        streams = runner.run(_open(address, client_context(address)))
        yield runner, streams
        runner.run(_close(streams[1]))


def serve_calls(address: Address, control: Control) -> None:
    """Send back what comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _write(writer, await _receive(reader))
        await writer.drain()

    _serve(address, control, answer)


async def _acknowledge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    touch(await _receive(reader))
    _write(writer, ACK)
    await writer.drain()


def serve_acknowledging(address: Address, control: Control, *_: str) -> None:
    """Touch what comes, from whomever, and say so."""
    _serve(address, control, _acknowledge)


async def _ask(streams: _Streams, payload: bytes) -> bytes:
    reader, writer = streams
    _write(writer, payload)
    await writer.drain()
    return await asyncio.wait_for(_receive(reader), PATIENCE)


@contextmanager
def call(address: Address) -> Iterator[Repeating[bytes]]:
    """``write``, ``drain`` and ``readexactly``."""

    async def repeat(count: int, payload: bytes) -> list[int]:
        took = []
        for _ in range(count):
            start = perf_counter_ns()
            _write(writer, payload)
            await writer.drain()
            await _receive(reader)
            took.append(perf_counter_ns() - start)
        return took

    with _connected(address) as (runner, (reader, writer)):
        yield Repeating(lambda count, payload: runner.run(repeat(count, payload)))


def serve_messages(address: Address, control: Control) -> None:
    """Count what comes."""

    async def receive(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        control.handled(await _receive(reader))

    _serve(address, control, receive)


@contextmanager
def send(address: Address) -> Iterator[Repeating[bytes]]:
    """``write`` and ``drain``."""

    async def repeat(count: int, payload: bytes) -> list[int]:
        for _ in range(count):
            _write(writer, payload)
            await writer.drain()
        return []

    with _connected(address) as (runner, (_, writer)):
        yield Repeating(lambda count, payload: runner.run(repeat(count, payload)))


@contextmanager
def send_batch(address: Address) -> Iterator[Repeating[list[bytes]]]:
    """``writelines`` and ``drain``."""

    async def repeat(count: int, payloads: list[bytes]) -> list[int]:
        for _ in range(count):
            writer.writelines(_LENGTH.pack(len(payload)) + payload for payload in payloads)
            await writer.drain()
        return []

    with _connected(address) as (runner, (_, writer)):
        yield Repeating(lambda count, payloads: runner.run(repeat(count, payloads)))


@contextmanager
def connect_once(address: Address) -> Iterator[Once]:
    """A new connection each time, in one loop."""

    async def once() -> None:
        streams = await _open(address, context)
        await _ask(streams, PAYLOAD)
        await _close(streams[1])

    context = client_context(address)
    with asyncio.Runner() as runner:
        yield lambda: runner.run(once())


def crowd(address: Address, control: Control, count: str) -> None:
    """Connections that asked once."""
    gather(address, control, int(count), partial(_join, address, client_context(address)))


def _join(address: Address, context: ssl.SSLContext | None) -> object:
    connection = connected(address, context)
    connection.sendall(_LENGTH.pack(len(PAYLOAD)) + PAYLOAD)
    connection.recv(_LENGTH.size + len(ACK))
    return connection
