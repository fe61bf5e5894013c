"""Event loops to run the tests in, and ports of every transport to use there."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.lowlevel
import pytest
from trio._core import _thread_cache

from portkit import RunLoop
from tests.transports.test_behaviour import TRANSPORTS, World

T = TypeVar("T")
Run: TypeAlias = Callable[[Callable[[], Awaitable[T]]], T]

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


@pytest.fixture(scope="session", autouse=True)
def first_loops(main_loop: RunLoop) -> None:
    """What event loops keep for the process, once one was made: it must be there before."""
    # Seconds for which trio keeps a thread for the next call.
    _thread_cache.IDLE_TIMEOUT = 0.05  # type: ignore[assignment]
    for options in LOOPS.values():
        anyio.run(anyio.lowlevel.checkpoint, **options)


@pytest.fixture(params=LOOPS.values(), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs an asynchronous function in an event loop of each kind, with bounds to its time."""

    def run(fn: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(40):
                return await fn()

        try:
            return anyio.run(bounded, **request.param)
        finally:
            gc.collect()  # what a traceback of the event loop's held

    return run


@pytest.fixture(params=["mach", "message", "socket"])
def world(request: pytest.FixtureRequest, no_leftovers: None) -> Iterator[World]:
    """A place to make ports in, of each transport."""
    with TRANSPORTS[request.param]() as transport, ExitStack() as stack:
        yield World(transport, stack)
