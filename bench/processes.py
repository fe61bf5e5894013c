"""Benchmarks between processes of one host: a client in this process, a server it spawned.

"multiprocessing" is ``multiprocessing.connection`` over a Unix socket. CPU time is that of both
processes; the client is a plain thread.
"""

from __future__ import annotations

from functools import partial

from bench.ipc import c_floor, measure, our_rights, ours, ways
from bench.ipc.c_floor import missing_compiler
from bench.ipc.spawn import Way, missing_memory
from bench.ipc.tables import LARGE, Tables
from bench.model import Benchmark, Contender, Figure

_C = "bare Unix socket, C"
_TABLES = Tables("ipc", "process")


def _large(mebibytes: int, size: int) -> Benchmark:
    def floor(length: int) -> tuple[Contender]:
        return (Contender(_C, partial(c_floor.large, length), missing_compiler),)

    return _TABLES.large(mebibytes, size=size, more=floor)


BENCHMARKS = (
    _TABLES.request(Contender(_C, c_floor.round_trips, missing_compiler)),
    _TABLES.one_way(Contender(_C, c_floor.one_way, missing_compiler)),
    _TABLES.batches(Contender(_C, c_floor.one_way_batches, missing_compiler)),
    _large(1, 100),
    _large(64, 6),
    Benchmark(
        name="process-in-place",
        title="A buffer of portkit's, written in place (two pages), sent, and acknowledged",
        figures=LARGE,
        contenders=tuple(
            Contender(
                f"{kibibytes // 1024} MiB" if kibibytes >= 1024 else f"{kibibytes} KiB",
                partial(measure.large, Way(ours.serve_large, ours.call_in_place), kibibytes << 10),
                ours.missing("ipc"),
            )
            for kibibytes in (256, 1 << 10, 16 << 10, 64 << 10, 256 << 10)
        ),
        size=200,
        quick_size=5,
    ),
    _TABLES.connections(Contender(_C, c_floor.connections, missing_compiler)),
    Benchmark(
        name="process-memory",
        title="What a server's memory grows by for each process that is connected and idle",
        figures=(Figure("server", "KiB", compared=True, spread=True),),
        contenders=tuple(
            Contender(
                row.name,
                partial(measure.idle_connections, row.way, row.crowd),
                row.missing or missing_memory,
            )
            for row in ways.crowds("ipc")
        ),
        size=300,
        quick_size=10,
        pinnings=(False,),
    ),
    Benchmark(
        name="process-ports",
        title="What memory grows by for each anonymous port that another process may send to",
        figures=(
            Figure("owner", "owner's bytes", digits=0, spread=True),
            Figure("holder", "holder's bytes", digits=0, spread=True),
        ),
        contenders=(
            Contender(
                "portkit, handed to another process",
                our_rights.memory,
                ours.missing("ipc") or missing_memory,
            ),
            Contender(
                "portkit, kept",
                partial(our_rights.memory, exported=False),
                ours.missing("ipc") or missing_memory,
            ),
        ),
        size=10_000,
        quick_size=100,
        pinnings=(False,),
    ),
)
