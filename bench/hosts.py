"""Benchmarks over TCP on loopback, plain and secured: what lies between hosts, but for the cable.

Secured is TLS 1.3 where both sides show a certificate, and CURVE with pyzmq. The cable is a process
between the two that delays every byte.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TypeVar

from bench.ipc import measure, ways
from bench.ipc.address import Network
from bench.ipc.crowd import missing_descriptors
from bench.ipc.spawn import Way, missing_memory
from bench.ipc.tables import LARGE, MEBIBYTE, Tables, contenders
from bench.ipc.ways import Row
from bench.measure import Call
from bench.model import Benchmark, Contender, Figure, Sample
from bench.threads import LATENCY, RATE

T = TypeVar("T")

DELAY = 0.02
"""Seconds, each way."""
CROWDS = (1, 100, 5000)
_CALLS = 300
"""Round trips beside a crowd."""
_REPEATS = 3
_OVER = f" over a cable of {DELAY * 1000:.0f} ms"
_LENGTHY = 1000
"""Peers in a crowd that takes its time to gather."""

_CROWD = (Figure("server", "KiB each", compared=True, spread=True), *LATENCY)
_CABLE = (
    Figure("p50", "p50 ms", digits=1, compared=True, spread=True),
    Figure("first", "first ms", digits=1),
)


def _benchmarks(network: Network) -> tuple[Benchmark, ...]:
    suffix, remark = ("", "TCP") if network == "tcp" else ("tls", "TLS or CURVE")
    tables = Tables(network, "hosts", suffix, remark)
    usual = (
        tables.request(),
        replace(tables.one_way(), pinnings=(False,)),
        replace(tables.batches(), pinnings=(False,)),
        replace(tables.large(1, size=50), pinnings=(False,)),
        replace(tables.large(64, size=2), pinnings=(False,)),
        replace(tables.connections(), pinnings=(False,)),
    )
    return (
        *(replace(benchmark, most_repeats=_REPEATS) for benchmark in usual),
        *(_crowd(tables, count) for count in CROWDS),
        *_cable(tables),
    )


def _crowd(tables: Tables, count: int) -> Benchmark:
    hindrance = missing_memory or missing_descriptors(count)
    return Benchmark(
        name=tables.name(f"crowd-{count}"),
        title=tables.title(
            f"A server's memory for each of {count} idle connections, and round trips beside them"
        ),
        figures=_CROWD,
        contenders=tuple(
            Contender(
                row.name,
                partial(measure.crowded_calls, row.way, row.crowd, _CALLS),
                row.missing or hindrance or _impatience(row, count),
            )
            for row in ways.crowds(tables.network)
        ),
        size=count,
        quick_size=min(count, 3),
        pinnings=(False,),
        most_repeats=_REPEATS if 1 < count < _LENGTHY else 1,
    )


def _impatience(row: Row[Call], count: int) -> str:
    return f"takes {row.most} in good time" if count > row.most else ""


def _cable(tables: Tables) -> tuple[Benchmark, ...]:
    def delayed(rows: list[Row[T]]) -> list[Row[T]]:
        return [replace(row, way=replace(row.way, delay=DELAY)) for row in rows]

    def large(way: Way[Call], count: int) -> Sample:
        return measure.large(way, 16 * MEBIBYTE, count)

    network = tables.network
    table = partial(Benchmark, pinnings=(False,), most_repeats=1)
    return (
        table(
            name=tables.name("cable-request"),
            title=tables.title(f"Round trip of 64 bytes{_OVER}; the first one connects"),
            figures=_CABLE,
            contenders=contenders(measure.first_answer, delayed(ways.calls(network))),
            size=10,
            quick_size=1,
        ),
        table(
            name=tables.name("cable-one-way"),
            title=tables.title(f"One way, 64 bytes, message by message{_OVER}"),
            figures=RATE,
            contenders=contenders(measure.one_way, delayed(ways.sends_ahead(network))),
            size=30_000,
            quick_size=100,
        ),
        table(
            name=tables.name("cable-16MiB"),
            title=tables.title(f"16 MiB{_OVER}, acknowledged"),
            figures=LARGE,
            contenders=contenders(large, delayed(ways.large(network))),
            size=5,
            quick_size=1,
        ),
    )


BENCHMARKS = (*_benchmarks("tcp"), *_benchmarks("tls"))
