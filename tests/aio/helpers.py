"""What the tests of event loops share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from portkit import Port
from portkit.aio import serve


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody announces; the event loop's test is bounded by its fixture."""
    while not condition():  # noqa: ASYNC110 - other threads change it
        await anyio.sleep(0.001)


@asynccontextmanager
async def served(port: Port, delegate: Any, **options: Any) -> AsyncIterator[anyio.CancelScope]:
    """Have the port served in this event loop; cancelled at the end, or by what is given."""

    async def body() -> None:
        with scope:
            await serve(port, delegate, **options)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        yield scope
        scope.cancel()
