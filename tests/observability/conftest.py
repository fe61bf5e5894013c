"""Event loops for the tests of what tasks do."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import pytest
from trio._core import _thread_cache

from portkit import RunLoop

Run: TypeAlias = Callable[[Callable[[], Awaitable[Any]]], Any]

BACKENDS = ["asyncio", "trio"]


@pytest.fixture(scope="session", autouse=True)
def first_loops(main_loop: RunLoop) -> None:
    """What event loops keep for the process, once one was made: it must be there before."""
    # Seconds for which trio keeps a thread for the next call.
    _thread_cache.IDLE_TIMEOUT = 0.05  # type: ignore[assignment]
    for backend in BACKENDS:
        anyio.run(anyio.lowlevel.checkpoint, backend=backend)


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs an asynchronous function in an event loop of each kind, with bounds to its time."""

    def run(fn: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(40):
                return await fn()

        try:
            return anyio.run(bounded, backend=request.param)
        finally:
            gc.collect()  # what a traceback of the event loop's held

    return run
