"""A long cable: passes TCP connections on to another address, every byte after some time.

What happens at once for all: that a connection is accepted.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from typing import TYPE_CHECKING

from bench.ipc.address import Address

if TYPE_CHECKING:
    from bench.ipc.server import Control

_CHUNK = 1 << 16
_UNDER_WAY = 4096
"""Chunks, each way."""


def serve(address: Address, control: Control, target: str, delay: str) -> None:
    """Pass on what comes to ``address``, after ``delay`` seconds, to ``target``, and back."""
    there = Address.parse(target)

    async def accept(reader: StreamReader, writer: StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(there.host, there.port)
        try:
            async with asyncio.TaskGroup() as group:
                _pass(group, reader, onward_writer, float(delay))
                _pass(group, onward_reader, writer, float(delay))
        except* ConnectionError:
            pass
        finally:
            writer.close()
            onward_writer.close()

    async def main() -> None:
        server = await asyncio.start_server(accept, address.host, address.port, limit=_CHUNK)
        control.ready()
        await server.serve_forever()

    asyncio.run(main())


def _pass(
    group: asyncio.TaskGroup, reader: StreamReader, writer: StreamWriter, delay: float
) -> None:
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
    group.create_task(_take(reader, under_way, delay))
    group.create_task(_give(under_way, writer))


async def _take(
    reader: StreamReader, under_way: asyncio.Queue[tuple[float, bytes]], delay: float
) -> None:
    chunk = b"first"
    while chunk:
        chunk = await reader.read(_CHUNK)
        await under_way.put((asyncio.get_running_loop().time() + delay, chunk))


async def _give(under_way: asyncio.Queue[tuple[float, bytes]], writer: StreamWriter) -> None:
    while True:
        due, chunk = await under_way.get()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        if not chunk:
            writer.write_eof()
            return
        writer.write(chunk)
        await writer.drain()
