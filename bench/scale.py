"""Whether ten thousand ports or timers on one loop are as quick as ten."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from time import perf_counter_ns, thread_time_ns
from typing import TypeVar

from bench.measure import PAYLOAD
from bench.model import Benchmark, Contender, Figure, Sample
from bench.ours import running
from portkit import MachPort, PortMessage, Timer, clock

T = TypeVar("T")

_FAR = 1e6
_CHANGES = 500
"""How many ports or timers are added and taken away again for one sample."""


def _answer(message: PortMessage) -> bytes:
    return message.data or b""


def _ports(number: int, calls: int) -> Sample:
    """Ask each of the ports in turn; then add and remove some more."""
    with ExitStack() as stack:
        ports = [stack.enter_context(MachPort(_answer)) for _ in range(number)]
        more = [stack.enter_context(MachPort(_answer)) for _ in range(_CHANGES)]
        loop = stack.enter_context(running(*ports))
        return {
            "round_trip": _median_round_trip(ports, calls),
            "add": loop.perform_and_wait(_mean, loop.add_port, more, timeout=None),
            "remove": loop.perform_and_wait(_mean, loop.remove_port, more, timeout=None),
        }


def _timers(number: int, calls: int, *, tolerance: float = 0.0) -> Sample:
    """Ask a port of a loop with many timers; then add, move and remove some more."""

    def new_timers(count: int) -> list[Timer]:
        return [Timer(_FAR + index, lambda _: None, tolerance=tolerance) for index in range(count)]

    with MachPort(_answer) as port, running(port) as loop:
        for timer in new_timers(number):
            loop.add_timer(timer)
        more = new_timers(_CHANGES)
        now = clock.now()

        def move(timer: Timer) -> None:
            timer.next_fire_date = now + _FAR / 2

        return {
            "round_trip": _median_round_trip([port], calls),
            "add": loop.perform_and_wait(_mean, loop.add_timer, more, timeout=None),
            "move": loop.perform_and_wait(_mean, move, more, timeout=None),
            "remove": loop.perform_and_wait(_mean, loop.remove_timer, more, timeout=None),
        }


def _median_round_trip(ports: Sequence[MachPort], calls: int) -> float:
    gc.collect()
    took = []
    turns = cycle(ports)
    for _ in range(calls):
        port = next(turns)
        start = perf_counter_ns()
        port.request(PAYLOAD)
        took.append(perf_counter_ns() - start)
    return sorted(took)[calls // 2] / 1e3


def _mean(change: Callable[[T], object], items: Iterable[T]) -> float:
    """Microseconds of CPU time for each, called on the loop's thread."""
    start = thread_time_ns()
    for item in items:
        change(item)
    return (thread_time_ns() - start) / _CHANGES / 1e3


def _figure(key: str, title: str) -> Figure:
    return Figure(key, title, digits=2, compared=True)


BENCHMARKS = (
    Benchmark(
        name="ports",
        title="Many ports on one loop",
        figures=(
            _figure("round_trip", "round trip µs"),
            _figure("add", "add µs"),
            _figure("remove", "remove µs"),
        ),
        contenders=(
            Contender("10 ports", partial(_ports, 10)),
            Contender("10,000 ports", partial(_ports, 10_000)),
        ),
        size=3000,
        quick_size=100,
    ),
    Benchmark(
        name="timers",
        title="Many timers on one loop",
        figures=(
            _figure("round_trip", "round trip µs"),
            _figure("add", "add µs"),
            _figure("move", "re-arm µs"),
            _figure("remove", "remove µs"),
        ),
        contenders=(
            Contender("10 timers", partial(_timers, 10)),
            Contender("10,000 timers", partial(_timers, 10_000)),
            Contender("10,000 tolerant timers", partial(_timers, 10_000, tolerance=_FAR)),
        ),
        size=3000,
        quick_size=100,
    ),
)
