"""The benchmarks that are the same between the processes of a host and over TCP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

from bench.ipc import measure, ways
from bench.ipc.address import Network
from bench.ipc.spawn import Way
from bench.ipc.ways import Row
from bench.measure import Call
from bench.model import Benchmark, Contender, Figure, Sample
from bench.threads import LATENCY, RATE

T = TypeVar("T")

Contenders: TypeAlias = "Callable[[int], tuple[Contender, ...]]"

MEBIBYTE = 1 << 20
LARGE = (
    Figure("p50", "p50 ms", digits=3, compared=True, spread=True),
    Figure("max", "max ms", digits=3),
    Figure("cpu", "CPU ms", digits=3),
)
CONNECTIONS = (
    Figure("rate", "per s", digits=0, compared=True, rate=True, spread=True),
    Figure("cpu", "CPU µs", digits=0),
)


@dataclass(frozen=True)
class Tables:
    """Makes them for a network. Each takes the rows that there are beside the usual ones.

    Attributes:
        network: which.
        prefix: what their names begin with.
        suffix: what their names end with.
        remark: what their titles end with.
    """

    network: Network
    prefix: str
    suffix: str = ""
    remark: str = ""

    def request(self, *more: Contender) -> Benchmark:
        """Round trips."""
        return Benchmark(
            name=self.name("request"),
            title=self.title(
                "Round trip of 64 bytes: a plain thread asks, another process answers"
            ),
            figures=LATENCY,
            contenders=(*contenders(measure.round_trips, ways.calls(self.network)), *more),
            size=2000,
            quick_size=100,
        )

    def one_way(self, *more: Contender) -> Benchmark:
        """Messages, one by one."""
        return Benchmark(
            name=self.name("one-way"),
            title=self.title(
                "One way, 64 bytes, message by message, until another process handled the last one"
            ),
            figures=RATE,
            contenders=(*contenders(measure.one_way, ways.sends(self.network)), *more),
            size=30_000,
            quick_size=1000,
        )

    def batches(self, *more: Contender) -> Benchmark:
        """Messages, many at a time."""
        return Benchmark(
            name=self.name("batches"),
            title=self.title(
                "One way, 64 bytes, in batches of 64, until another process handled the last one"
            ),
            figures=RATE,
            contenders=(*contenders(measure.one_way_batches, ways.batches(self.network)), *more),
            size=100_000,
            quick_size=2000,
        )

    def large(self, mebibytes: int, *, size: int, more: Contenders = lambda _: ()) -> Benchmark:
        """Large data; ``more`` is called with its bytes."""
        length = mebibytes * MEBIBYTE

        def measured(way: Way[Call], count: int) -> Sample:
            return measure.large(way, length, count)

        return Benchmark(
            name=self.name(f"{mebibytes}MiB"),
            title=self.title(
                f"{mebibytes} MiB to another process, which touches two pages and acknowledges"
            ),
            figures=LARGE,
            contenders=(*contenders(measured, ways.large(self.network)), *more(length)),
            size=size,
            quick_size=max(1, size // 20),
        )

    def connections(self, *more: Contender) -> Benchmark:
        """New connections."""
        return Benchmark(
            name=self.name("connections"),
            title=self.title("Connect, get an answer, close: one after the other"),
            figures=CONNECTIONS,
            contenders=(*contenders(measure.connections, ways.connects(self.network)), *more),
            size=300,
            quick_size=10,
        )

    def name(self, what: str) -> str:
        """The name of a benchmark."""
        return "-".join(filter(None, (self.prefix, what, self.suffix)))

    def title(self, what: str) -> str:
        """The title of a benchmark."""
        return ", ".join(filter(None, (what, self.remark)))


def contenders(
    measured: Callable[[Way[T], int], Sample], rows: list[Row[T]]
) -> tuple[Contender, ...]:
    """Each row, measured that way."""
    return tuple(Contender(row.name, partial(measured, row.way), row.missing) for row in rows)
