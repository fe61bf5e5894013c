"""All benchmarks, and running them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import hosts, idle, machine, processes, scale, threads
from bench.calls import tables as calls
from bench.calls import typed_tables as typed
from bench.model import Benchmark, Result, Row

BENCHMARKS: tuple[Benchmark, ...] = (
    *threads.BENCHMARKS,
    *idle.BENCHMARKS,
    *scale.BENCHMARKS,
    *processes.BENCHMARKS,
    *hosts.BENCHMARKS,
    *typed.BENCHMARKS,
    *calls.BENCHMARKS,
)


def run(
    benchmark: Benchmark,
    *,
    repeats: int,
    size: int,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Result]:
    """Sample the contenders in turn, A B C … A B C …, so that a change of the machine's mood
    meets all of them; pinned and not pinned in turn as well.
    """
    results = [
        Result(benchmark, pin, size, [Row(contender) for contender in benchmark.contenders])
        for pin in benchmark.pinnings
    ]
    repeats = min(repeats, benchmark.most_repeats)
    for repeat in range(repeats):
        for result in results:
            for row in result.rows:
                if row.contender.missing:
                    continue
                on_progress(f"{benchmark.name} {repeat + 1}/{repeats}: {row.contender.name}")
                with machine.pinned(result.pinned):
                    row.samples.append(row.contender.sample(size))
    yield from results
