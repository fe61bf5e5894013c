"""Benchmarks of calls of another process's methods, over a Unix socket and over TCP on loopback.

The client is a plain thread of this process, or eight.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.calls import measure, ways
from bench.calls.ways import Row
from bench.ipc import measure as ipc_measure
from bench.ipc import ours as raw
from bench.ipc.address import Network
from bench.ipc.spawn import Way
from bench.model import Benchmark, Contender, Figure, Sample
from bench.threads import LATENCY, RATE

CALLERS = 8
_REQUEST = "portkit request of 64 bytes"
_REPEATS = 3
_TOGETHER = (
    Figure("rate", "thousand/s", digits=2, compared=True, rate=True, spread=True),
    Figure("p50", "p50 µs"),
    Figure("p99", "p99 µs"),
    Figure("cpu", "CPU µs"),
)


def _benchmarks(network: Network) -> tuple[Benchmark, ...]:
    over = "a Unix socket" if network == "ipc" else "TCP"
    request = Way(raw.serve_calls, raw.call, network=network)
    request_echo = Way(raw.serve_calls, measure.request_echo, network=network)
    missing = raw.missing(network)
    floor = Contender(_REQUEST, partial(ipc_measure.round_trips, request), missing)
    floor_echo = Contender(
        "portkit request of 100 kB", partial(ipc_measure.round_trips, request_echo), missing
    )
    floor_together = Contender(
        _REQUEST, partial(measure.concurrent_round_trips, request, CALLERS, True), missing
    )

    def table(
        name: str,
        what: str,
        turn: measure.Turn,
        *more: Contender,
        rows: Callable[[Network], list[Row]] = ways.plain,
        size: int = 1000,
        pinnings: tuple[bool, ...] = (False,),
    ) -> Benchmark:
        return Benchmark(
            name=f"calls-{name}-{network}",
            title=f"{what}, over {over}",
            figures=LATENCY,
            contenders=(*(_timed(row, turn) for row in rows(network)), *more),
            size=size,
            quick_size=max(2, size // 50),
            pinnings=pinnings,
            most_repeats=_REPEATS,
        )

    return (
        table("add", "A call: add(1, 2)", measure.add, floor, pinnings=(False, True)),
        table("echo", "A call with 100 kB, which come back", measure.echo, floor_echo, size=300),
        table("structure", "A call with a nested structure of 20 fields", measure.settle),
        table(
            "callback",
            "A call during which the client's object is called",
            measure.ring,
            rows=ways.listening,
        ),
        table(
            "stream",
            f"A call for an iterator, and its {measure.STREAMED:,} numbers",
            measure.stream,
            size=20,
        ),
        Benchmark(
            name=f"calls-one-way-{network}",
            title=f"Calls one way with 64 bytes, until the last one was handled, over {over}",
            figures=RATE,
            contenders=tuple(
                Contender(row.name, partial(_noted, row), row.missing)
                for row in ways.one_way(network)
            ),
            size=5000,
            quick_size=200,
            pinnings=(False,),
            most_repeats=_REPEATS,
        ),
        Benchmark(
            name=f"calls-threads-{network}",
            title=f"add(1, 2) by {CALLERS} threads at once, over {over}",
            figures=_TOGETHER,
            contenders=(
                *(
                    Contender(row.name, partial(_together, row), row.missing)
                    for row in ways.plain(network)
                ),
                floor_together,
            ),
            size=4000,
            quick_size=80,
            pinnings=(False,),
            most_repeats=_REPEATS,
        ),
    )


def _timed(row: Row, turn: measure.Turn) -> Contender:
    way = measure.calling(row.way, turn)
    return Contender(row.name, partial(ipc_measure.round_trips, way), row.missing)


def _noted(row: Row, count: int) -> Sample:
    return ipc_measure.one_way(measure.noting(row.way), count)


def _together(row: Row, count: int) -> Sample:
    way = measure.calling(row.way, measure.add)
    return measure.concurrent_round_trips(way, CALLERS, row.shared, count)


BENCHMARKS = (*_benchmarks("ipc"), *_benchmarks("tcp"))
