"""The recipe of docs/event-loops.md for asynchronous event loops, in each of them."""

from __future__ import annotations

import gc
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from portkit import MachPort, RunLoop
from portkit.loops import new_event_loop
from portkit.runloop import GuestRun
from tests.aio.conftest import first_loops
from tests.loops.helpers import output_of
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "portkit": {"backend": "asyncio", "backend_options": {"loop_factory": new_event_loop}},
    "trio": {"backend": "trio"},
}

__all__ = ["first_loops"]  # a fixture

pytestmark = pytest.mark.own_thread


async def serve(guest: GuestRun) -> None:
    while guest.is_valid:
        delay = guest.process()
        if guest.is_valid:
            with anyio.move_on_after(math.inf if delay is None else delay):
                await anyio.wait_readable(guest)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Run an asynchronous function in one of the event loops."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(PATIENCE):
                return await main()

        try:
            return anyio.run(bounded, **LOOPS[request.param])
        finally:
            gc.collect()  # what a traceback of the event loop's held

    return run


def test_messages_timers_and_calls(run: Callable[..., Any]) -> None:
    async def main() -> None:
        loop, delegate = RunLoop.current(), Recorder(b"!")
        fired, called = anyio.Event(), anyio.Event()
        with MachPort(delegate) as port, loop.start_guest_run("guest") as guest:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve, guest)
                loop.add_port(port, "guest")
                asker = Background(
                    lambda: [port.request(reply_timeout=PATIENCE).data for _ in range(50)]
                )
                assert await anyio.to_thread.run_sync(asker.result) == [b"!"] * 50
                loop.call_later(0.01, fired.set, mode="guest")
                await fired.wait()
                caller = Background(lambda: loop.perform(called.set, modes="guest"))
                await called.wait()
                caller.result()
                tasks.cancel_scope.cancel()

    run(main)


def test_a_timer_moved_by_another_thread_while_the_host_waits(run: Callable[..., Any]) -> None:
    async def main() -> None:
        loop = RunLoop.current()
        fired = anyio.Event()
        with loop.start_guest_run("guest") as guest:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve, guest)
                timer = loop.call_later(1000, fired.set, mode="guest")
                await anyio.sleep(0.01)

                def sooner() -> None:
                    timer.next_fire_date = 0

                thread = Background(sooner)
                await fired.wait()
                thread.result()
                tasks.cancel_scope.cancel()

    run(main)


def test_stop_ends_the_guest(run: Callable[..., Any]) -> None:
    async def main() -> None:
        loop = RunLoop.current()
        with loop.start_guest_run("guest") as guest:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve, guest)
                await anyio.lowlevel.checkpoint()
                thread = Background(lambda: loop.perform(loop.stop, modes="guest"))
        thread.result()
        assert not guest.is_valid

    run(main)


def test_a_guest_of_trio_does_not_take_its_signals() -> None:
    """trio has signals wake it, by the one descriptor that there is for that."""
    output = output_of(
        """
        import trio

        async def main():
            with RunLoop.current().start_guest_run() as guest:
                guest.process()
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    await trio.sleep(30)
                except KeyboardInterrupt:
                    print("interrupted")

        trio.run(main)
        print(signal.set_wakeup_fd(-1))
        """
    )
    assert output == "interrupted\n-1\n"
