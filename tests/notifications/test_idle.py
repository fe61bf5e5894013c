"""When a run loop is idle, and that such notifications wait for it (T10)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from threading import Thread

import anyio
import pytest

from portkit import (
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    MachPort,
    Notification,
    NotificationCenter,
    NotificationQueue,
    PostingStyle,
    RunLoop,
    RunResult,
)
from portkit import Observer as RunLoopObserver
from portkit.aio import hosting
from portkit.loops import new_event_loop
from tests.support import PATIENCE, LoopThread, eventually, keep_alive

pytestmark = pytest.mark.own_thread

IDLE = PostingStyle.WHEN_IDLE


class Bench:
    """A queue, and what happens in its order."""

    def __init__(self) -> None:
        self.center = NotificationCenter()
        self.queue = NotificationQueue(self.center)
        self.loop = RunLoop.current()
        self.told: list[str] = []
        self.center.add_observer(lambda notification: self.told.append(notification.name))

    def stop_when_idle(self) -> None:
        self.center.add_observer(lambda _: self.loop.stop(), "idle")
        self.queue.enqueue("idle", IDLE)


def test_after_everything_that_is_ready() -> None:
    bench = Bench()
    bench.stop_when_idle()
    told, loop = bench.told, bench.loop
    port = MachPort(lambda message: told.append("message"))
    loop.add_port(port)
    port.send_many([b""] * 200)  # more than a batch
    source = InputSource(lambda _: told.append("source"))
    loop.add_source(source)
    source.signal()
    loop.call_later(0.0, told.append, "timer")
    loop.perform(told.append, "call")
    reader, writer = os.pipe()
    os.write(writer, b"12")
    loop.add_source(DescriptorSource(reader, lambda s, r: told.append(os.read(reader, 1).decode())))
    assert loop.run(PATIENCE) is RunResult.STOPPED
    assert told[-1] == "idle"
    assert sorted(told) == sorted(["call", "source", "timer", "1", "2", "idle", *["message"] * 200])
    port.invalidate()
    os.close(reader)
    os.close(writer)


def test_not_while_callbacks_make_more_to_do() -> None:
    bench = Bench()
    bench.stop_when_idle()
    keep_alive(bench.loop)

    def work(left: int) -> None:
        bench.told.append("work")
        if left:
            bench.loop.perform(work, left - 1)

    bench.loop.perform(work, 20)
    assert bench.loop.run(PATIENCE) is RunResult.STOPPED
    assert bench.told == ["work"] * 21 + ["idle"]


def test_before_a_timer_that_is_not_due() -> None:
    bench = Bench()
    bench.queue.enqueue("idle", IDLE)
    bench.loop.call_later(0.05, bench.told.append, "timer")
    assert bench.loop.run(PATIENCE) is RunResult.FINISHED
    assert bench.told == ["idle", "timer"]


def test_with_nothing_else_to_wait_for() -> None:
    bench = Bench()
    bench.queue.enqueue("idle", IDLE)
    assert bench.loop.run(PATIENCE) is RunResult.FINISHED
    assert bench.told == ["idle"]
    assert not bench.loop.run_mode(DEFAULT_MODE, PATIENCE)


@pytest.mark.parametrize("style", [IDLE, PostingStyle.AS_SOON_AS_POSSIBLE])
def test_in_asyncio_on_a_run_loop(style: PostingStyle) -> None:
    """When neither has anything to do."""
    bench = Bench()

    async def main() -> None:
        done = asyncio.Event()
        bench.center.add_observer(lambda _: done.set())
        asyncio.get_running_loop().call_later(60.0, print)  # which is not ready
        bench.queue.enqueue("posted", style)
        bench.told.append("enqueued")
        for _ in range(5):
            await asyncio.sleep(0)
            bench.told.append("task")
        await asyncio.wait_for(done.wait(), PATIENCE)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    assert sorted(bench.told) == ["enqueued", "posted", *["task"] * 5]
    if style is IDLE:
        assert bench.told[-1] == "posted"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("style", [IDLE, PostingStyle.AS_SOON_AS_POSSIBLE])
def test_in_a_run_loop_that_tasks_host(backend: str, style: PostingStyle) -> None:
    bench = Bench()

    async def main() -> None:
        async with hosting():
            done = anyio.Event()
            bench.center.add_observer(lambda _: done.set())
            await anyio.sleep(0.01)  # the run loop rests
            bench.queue.enqueue("posted", style)
            with anyio.fail_after(PATIENCE):
                await done.wait()

    anyio.run(main, backend=backend)
    assert bench.told == ["posted"]


def test_in_a_pass_that_does_not_sleep() -> None:
    bench = Bench()
    keep_alive(bench.loop)
    bench.queue.enqueue("idle", IDLE)
    bench.loop.run(0)
    assert bench.told == ["idle"]


def test_not_in_a_pass_that_leaves_something_ready() -> None:
    bench = Bench()
    bench.loop.batch_limit = 1
    port = MachPort(lambda message: bench.told.append("message"))
    bench.loop.add_port(port)
    port.send_many([b"", b""])
    bench.queue.enqueue("idle", IDLE)
    bench.loop.run(0)
    assert bench.told == ["message"]
    bench.loop.run(0)
    assert bench.told == ["message", "message", "idle"]
    port.invalidate()


def test_it_ends_run_mode() -> None:
    """``while not done: loop.run_mode(…)`` sees what an observer did."""
    bench = Bench()
    bench.loop.call_later(60.0, bench.loop.stop)
    bench.queue.enqueue("idle", IDLE)
    while not bench.told:
        assert bench.loop.run_mode(DEFAULT_MODE, PATIENCE)
    bench.loop.cancel_calls()


@pytest.mark.parametrize(
    "activity", [Activity.BEFORE_TIMERS, Activity.BEFORE_WAITING, Activity.AFTER_WAITING]
)
def test_queued_by_an_observer_of_the_run_loop(activity: Activity) -> None:
    """Which may come just before the loop sleeps."""
    bench = Bench()
    bench.center.add_observer(lambda _: bench.loop.stop(), "idle")
    once = RunLoopObserver(
        lambda o, a: bench.queue.enqueue("idle", IDLE), activity, repeats=False, order=0x7FFFFFFF
    )
    bench.loop.add_observer(once)
    bench.loop.call_later(60.0, bench.loop.stop)
    bench.loop.perform(bench.told.append, "call")
    assert bench.loop.run(PATIENCE) is RunResult.STOPPED
    assert bench.told == ["call", "idle"]
    bench.loop.cancel_calls()


def test_queued_by_an_idle_one() -> None:
    """It is posted in the next idle pass, and what came meanwhile goes first."""
    bench = Bench()

    def again(notification: Notification) -> None:
        if len(bench.told) < 8:
            bench.loop.perform(bench.told.append, "call")
            bench.queue.enqueue("idle", IDLE)

    bench.center.add_observer(again, "idle")
    bench.queue.enqueue("idle", IDLE)
    assert bench.loop.run(PATIENCE) is RunResult.FINISHED
    assert bench.told == ["idle", "call"] * 4 + ["idle"]


def test_in_a_run_nested_in_an_idle_one() -> None:
    bench = Bench()

    def nested(notification: Notification) -> None:
        bench.queue.enqueue("inner", IDLE)
        bench.loop.run(PATIENCE)
        bench.told.append("left")

    bench.center.add_observer(nested, "outer")
    bench.queue.enqueue("outer", IDLE)
    assert bench.loop.run(PATIENCE) is RunResult.FINISHED
    assert bench.told == ["outer", "inner", "left"]


def test_a_loop_that_waits_sleeps() -> None:
    """One that has posted them does not look for more."""
    passes: list[Activity] = []
    with LoopThread() as thread:
        told: list[str] = []
        center = NotificationCenter()
        center.add_observer(lambda notification: told.append(notification.name))

        def begin() -> None:
            queue = NotificationQueue(center)
            queue.enqueue("a", IDLE)
            queue.enqueue("b", IDLE, modes="special")  # not in this mode
            thread.loop.add_observer(
                RunLoopObserver(lambda o, activity: passes.append(activity), Activity.BEFORE_TIMERS)
            )
            queues.append(queue)

        queues: list[NotificationQueue] = []
        thread.call(begin)
        assert eventually(lambda: told == ["a"])

        def rests() -> bool:
            count = len(passes)
            return not eventually(lambda: len(passes) > count, 0.1)

        assert eventually(rests)
        assert thread.call(queues[0].dequeue, "b") == 1


def test_a_thread_that_keeps_the_loop_busy() -> None:
    """Each wake-up may be work: the loop is idle when there are no more."""
    bench = Bench()
    bench.stop_when_idle()
    source = keep_alive(bench.loop)
    calls: list[Callable[[], None]] = []

    def busy() -> None:
        for _ in range(2000):
            bench.loop.perform(lambda: bench.told.append("call"))

    thread = Thread(target=busy)
    bench.loop.perform(thread.start)
    assert bench.loop.run(PATIENCE) is RunResult.STOPPED
    thread.join()
    source.invalidate()
    bench.loop.run(PATIENCE)
    assert bench.told.count("call") == 2000
    assert bench.told.count("idle") == 1
    assert not calls
