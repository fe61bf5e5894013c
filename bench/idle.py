"""What a loop costs that has nothing to do."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Thread
from typing import TypeAlias

from bench.model import Benchmark, Contender, Figure, Sample
from portkit import MachPort, RunLoop, Timer

_FAR = 1e6
"""Seconds until timers are due: not during the measurement."""

Run: TypeAlias = "Callable[[float], object]"
"""Runs a loop for so many seconds."""


def _watch(prepared: Callable[[], AbstractContextManager[Run]], milliseconds: int) -> Sample:
    """Prepare a loop on a thread of its own, run it that long, and read the thread's account."""
    sample: Sample = {}

    def body() -> None:
        with prepared() as run:
            run(0.01)
            before = resource.getrusage(resource.RUSAGE_THREAD)
            cpu = time.thread_time_ns()
            run(milliseconds / 1000)
            sample["cpu"] = (time.thread_time_ns() - cpu) / 1e3
            after = resource.getrusage(resource.RUSAGE_THREAD)
            sample["sleeps"] = after.ru_nvcsw - before.ru_nvcsw

    thread = Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    return sample


@contextmanager
def _portkit(count: int) -> Iterator[Run]:
    loop = RunLoop.current()
    for _ in range(count):
        loop.add_port(MachPort(lambda _: None))
        loop.add_timer(Timer(_FAR, lambda _: None))
    yield loop.run


@contextmanager
def _asyncio(count: int) -> Iterator[Run]:
    loop = asyncio.new_event_loop()

    def run(seconds: float) -> None:
        loop.run_until_complete(asyncio.sleep(seconds))

    for _ in range(count):
        loop.call_later(_FAR, id, None)
    yield run
    loop.close()


BENCHMARKS = (
    Benchmark(
        name="idle",
        title="A loop that sleeps for a second: CPU time and times it went to sleep",
        figures=(
            Figure("cpu", "CPU µs", digits=0, spread=True),
            Figure("sleeps", "sleeps", digits=0, spread=True),
        ),
        contenders=(
            Contender("portkit, 1 port, 1 timer", partial(_watch, partial(_portkit, 1))),
            Contender(
                "portkit, 10,000 ports, 10,000 timers", partial(_watch, partial(_portkit, 10_000))
            ),
            Contender("asyncio, 1 timer", partial(_watch, partial(_asyncio, 1))),
            Contender("asyncio, 10,000 timers", partial(_watch, partial(_asyncio, 10_000))),
        ),
        size=1000,
        quick_size=100,
        pinnings=(False,),
    ),
)
