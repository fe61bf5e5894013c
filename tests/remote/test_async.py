"""Methods and iterators that are awaited, on either side, in asyncio, uvloop and trio."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

import anyio
import pytest

from portkit import ReceiveTimeoutError, RemoteError
from portkit.aio import hosting
from portkit.remote import Connection, Service, current_call, oneway, raises, with_timeout
from tests.aio.conftest import LOOPS, first_loops
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.processes.roles import Here

__all__ = ["first_loops"]

pytestmark = [
    pytest.mark.own_thread,
    pytest.mark.parametrize("way", ["mach", "socket"], indirect=True),
]


class Bell(Protocol):
    async def ring(self, number: int) -> int: ...


class Pier(Protocol):
    """Awaited by its callers."""

    async def add(self, left: int, right: int) -> int: ...
    async def wait(self, seconds: float) -> str: ...
    @raises(LookupError)
    async def fail(self, declared: bool) -> None: ...
    async def meet(self, count: int) -> int: ...
    async def call_back(self, bell: Bell, times: int) -> list[int]: ...
    async def depth(self) -> tuple[int, int]: ...
    @oneway
    async def note(self, number: int) -> None: ...
    async def notes(self) -> list[int]: ...
    async def numbers(self, count: int, fail: bool = False) -> AsyncIterator[int]: ...
    async def slow_numbers(self) -> AsyncIterator[int]: ...
    async def total(self, numbers: AsyncIterator[int]) -> int: ...
    async def closed(self) -> list[str]: ...
    async def cancelled(self) -> int: ...


class PierForThreads(Protocol):
    """The same, for callers without an event loop."""

    def add(self, left: int, right: int) -> int: ...
    def wait(self, seconds: float) -> str: ...
    def meet(self, count: int) -> int: ...
    def numbers(self, count: int, fail: bool = False) -> Iterator[int]: ...
    def total(self, numbers: Iterator[int]) -> int: ...
    def closed(self) -> list[str]: ...
    def cancelled(self) -> int: ...


class PierServer:
    """Some of its methods are asynchronous."""

    def __init__(self) -> None:
        self._met = 0
        self._notes: list[int] = []
        self._closed: list[str] = []
        self._cancelled = 0

    def add(self, left: int, right: int) -> int:
        return left + right

    async def wait(self, seconds: float) -> str:
        try:
            await anyio.sleep(seconds)
        except BaseException:
            self._cancelled += 1
            raise
        return "waited"

    async def fail(self, declared: bool) -> None:
        await anyio.lowlevel.checkpoint()
        raise LookupError("declared") if declared else ValueError("not declared")

    async def meet(self, count: int) -> int:
        """Return once as many are here."""
        self._met += 1
        while self._met < count:  # noqa: ASYNC110 - it is what the test is about
            await anyio.sleep(0.001)
        return self._met

    async def call_back(self, bell: Bell, times: int) -> list[int]:
        return [await bell.ring(number) for number in range(times)]

    async def depth(self) -> tuple[int, int]:
        before = current_call()
        await anyio.sleep(0.01)
        after = current_call()
        assert before is not None
        assert after is not None
        return before.depth, after.depth

    async def note(self, number: int) -> None:
        await anyio.lowlevel.checkpoint()
        self._notes.append(number)

    def notes(self) -> list[int]:
        return self._notes

    async def numbers(self, count: int, fail: bool = False) -> AsyncIterator[int]:
        return self._numbers(count, fail)

    async def _numbers(self, count: int, fail: bool) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await anyio.lowlevel.checkpoint()
                yield number
            if fail:
                raise ValueError("after all numbers")
        finally:
            self._closed.append("closed")

    async def slow_numbers(self) -> AsyncIterator[int]:
        return self._slow_numbers()

    async def _slow_numbers(self) -> AsyncIterator[int]:
        yield 1
        await anyio.sleep(PATIENCE)
        yield 2

    async def total(self, numbers: AsyncIterator[int]) -> int:
        total = 0
        async for number in numbers:
            total += number
        return total

    def closed(self) -> list[str]:
        return self._closed

    def cancelled(self) -> int:
        return self._cancelled


class Chime:
    async def ring(self, number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * number


@pytest.fixture(params=LOOPS.values(), ids=list(LOOPS))
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of ``anyio.run``, for an event loop of each kind."""
    found: dict[str, Any] = request.param
    return found


@contextmanager
def serving(options: dict[str, Any], **limits: Any) -> Iterator[Service]:
    """A pier is served as "pier", in an event loop of a thread of its own."""
    started = threading.Event()
    services: list[Service] = []
    stops: list[Callable[[], None]] = []
    errors: list[BaseException] = []

    async def main() -> None:
        stop = anyio.Event()
        async with hosting() as loop:
            with Connection.serve(
                Here.way.open("pier"), PierServer(), PierForThreads, **limits
            ) as service:
                services.append(service)
                stops.append(lambda: loop.perform(stop.set))
                started.set()
                with anyio.fail_after(PATIENCE):
                    await stop.wait()

    def body() -> None:
        try:
            anyio.run(main, **options)
        except BaseException as error:
            errors.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=body)
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield services.pop()
    finally:
        for stop in stops:
            stop()
        thread.join(PATIENCE)
    assert not errors


class TestFromThreads:
    """Callers without an event loop."""

    @pytest.fixture(autouse=True)
    def served(self, options: dict[str, Any], way: object) -> Iterator[Service]:
        with serving(options) as service:
            yield service

    def test_calls(self) -> None:
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            pier = connection.root(PierForThreads)
            assert pier.add(1, 2) == 3
            assert pier.wait(0.01) == "waited"
            assert list(pier.numbers(300)) == list(range(300))
            assert eventually(lambda: pier.closed() == ["closed"])

    def test_several_at_once(self) -> None:
        """A method that waits keeps nobody from being served."""
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            pier = connection.root(PierForThreads)
            results: list[int] = []
            threads = [
                threading.Thread(target=lambda: results.append(pier.meet(5))) for _ in range(5)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert results == [5] * 5

    def test_one_that_nobody_waits_for_is_cancelled(self) -> None:
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            pier = connection.root(PierForThreads)
            with pytest.raises(ReceiveTimeoutError):
                with_timeout(pier, 0.05).wait(PATIENCE)
            assert eventually(lambda: pier.cancelled() == 1)

    def test_an_iterator_that_nobody_asks_is_closed(self) -> None:
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            pier = connection.root(PierForThreads)
            numbers = pier.numbers(1_000_000)
            assert next(numbers) == 0
            del numbers
            assert eventually(lambda: pier.closed() == ["closed"])

    def test_an_iterator_is_closed_with_its_connection(self, served: Service) -> None:
        """There, though another thread ends that."""
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            assert next(connection.root(PierForThreads).numbers(1_000_000)) == 0
            numbers = connection.root(PierForThreads).numbers(1_000_000)
            assert next(numbers) == 0
            for theirs in served.connections:
                theirs.invalidate()
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            pier = connection.root(PierForThreads)
            assert eventually(lambda: pier.closed() == ["closed"] * 2)

    def test_an_error_after_the_items_before_it(self) -> None:
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            numbers = connection.root(PierForThreads).numbers(3, fail=True)
            assert [next(numbers) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(RemoteError, match="after all numbers"):
                next(numbers)


async def in_tasks(check: Callable[[Pier], Awaitable[None]]) -> None:
    """Check it with a connection of this event loop, to what is served in the same one."""
    async with hosting():
        with (
            Connection.serve(Here.way.open("pier"), PierServer(), Pier),
            Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection,
        ):
            await check(await anyio.to_thread.run_sync(connection.root, Pier))


@pytest.fixture
def check(options: dict[str, Any], way: object) -> Callable[..., None]:
    """Runs a check of callers that await."""

    def run(check: Callable[[Pier], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE):
                await in_tasks(check)

        anyio.run(main, **options)

    return run


def test_no_more_at_once_than_the_limit(options: dict[str, Any], way: object) -> None:
    async def calls() -> None:
        port = Here.way.remote("pier")
        with Connection.to(port, timeout=PATIENCE) as connection, anyio.fail_after(PATIENCE):
            pier = await anyio.to_thread.run_sync(connection.root, Pier)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pier.wait, PATIENCE)
                tasks.start_soon(pier.wait, PATIENCE)
                await until_awaited(2)
                with pytest.raises(RemoteError, match=r"2 calls are awaited .*max_awaited="):
                    await pier.wait(0)
                assert await pier.add(1, 2) == 3
                tasks.cancel_scope.cancel()
            await until_awaited(0)
            assert await pier.wait(0) == "waited"

    async def until_awaited(count: int) -> None:
        (theirs,) = service.connections
        while len(theirs.awaited) != count:  # noqa: ASYNC110 - of another thread
            await anyio.sleep(0.001)

    with serving(options, max_awaited=2) as service:
        anyio.run(calls, **options)


class TestFromTasks:
    """Callers that await."""

    def test_calls(self, check: Callable[..., None]) -> None:
        async def calls(pier: Pier) -> None:
            assert await pier.add(1, 2) == 3
            assert await pier.wait(0.01) == "waited"
            assert await pier.depth() == (1, 1)
            for number in range(20):
                await pier.note(number)
            while len(await pier.notes()) < 20:  # noqa: ASYNC110 - only asking tells
                await anyio.sleep(0.001)
            assert sorted(await pier.notes()) == list(range(20))

        check(calls)

    def test_exceptions(self, check: Callable[..., None]) -> None:
        async def calls(pier: Pier) -> None:
            with pytest.raises(LookupError, match="declared"):
                await pier.fail(declared=True)
            with pytest.raises(RemoteError, match="not declared") as caught:
                await pier.fail(declared=False)
            assert "in fail\n" in caught.value.traceback

        check(calls)

    def test_several_at_once(self, check: Callable[..., None]) -> None:
        async def calls(pier: Pier) -> None:
            async def meet() -> None:
                results.append(await pier.meet(10))

            results: list[int] = []
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(meet)
            assert results == [10] * 10

        check(calls)

    def test_callbacks(self, check: Callable[..., None]) -> None:
        async def calls(pier: Pier) -> None:
            assert await pier.call_back(Chime(), 50) == [2 * number for number in range(50)]

        check(calls)

    def test_cancelled(self, check: Callable[..., None]) -> None:
        async def calls(pier: Pier) -> None:
            with anyio.move_on_after(0.05) as scope:
                await pier.wait(PATIENCE)
            assert scope.cancelled_caught
            while await pier.cancelled() < 1:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.001)

        check(calls)

    def test_iterators(self, check: Callable[..., None]) -> None:
        async def calls(pier: Pier) -> None:
            numbers = await pier.numbers(300)
            assert [number async for number in numbers] == list(range(300))

            async def ours() -> AsyncIterator[int]:
                for number in range(100):
                    await anyio.lowlevel.checkpoint()
                    yield number

            assert await pier.total(ours()) == sum(range(100))
            async with aclosing(await pier.numbers(1_000_000)) as early:  # type: ignore[type-var]
                async for number in early:
                    if number == 10:
                        break
            while len(await pier.closed()) < 2:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.001)
            failing = await pier.numbers(2, fail=True)
            assert [await anext(failing), await anext(failing)] == [0, 1]
            with pytest.raises(RemoteError, match="after all numbers"):
                await anext(failing)

        check(calls)

    def test_an_iterator_that_was_cancelled_has_ended(self, check: Callable[..., None]) -> None:
        """What it was asked for may be lost: going on would leave that out."""

        async def calls(pier: Pier) -> None:
            numbers = await pier.slow_numbers()
            assert await anext(numbers) == 1
            with anyio.move_on_after(0.05) as scope:
                await anext(numbers)
            assert scope.cancelled_caught
            assert [number async for number in numbers] == []
            assert await pier.add(1, 1) == 2

        check(calls)


def test_without_an_event_loop_it_is_said(way: object) -> None:
    with LoopThread() as thread:
        service = thread.call(
            lambda: Connection.serve(Here.way.open("pier"), PierServer(), PierForThreads)
        )
        with Connection.to(Here.way.remote("pier"), timeout=PATIENCE) as connection:
            pier = connection.root(PierForThreads)
            with pytest.raises(RemoteError, match=r"within portkit\.aio\.hosting") as caught:
                pier.wait(0)
            assert caught.value.type == "portkit.errors.PortError"
            assert pier.add(1, 2) == 3
        service.invalidate()
