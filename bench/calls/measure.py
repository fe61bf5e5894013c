"""What is timed of the calls of another process's methods, and calls of several threads at once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from threading import Barrier, BrokenBarrierError
from time import perf_counter_ns
from typing import TypeAlias

from bench.calls.work import TOTAL, Client
from bench.ipc import ours as raw
from bench.ipc.address import Address
from bench.ipc.measure import cpu_ns
from bench.ipc.spawn import PATIENCE, Way
from bench.measure import Call, Send, latencies, time_calls
from bench.model import Sample

ECHOED = bytes(range(250)) * 400
"""100 kB."""
STREAMED = 1000

Turn: TypeAlias = "Callable[[Client], None]"


def add(client: Client) -> None:
    """Two numbers there, one back."""
    assert client.add(1, 2) == 3


def echo(client: Client) -> None:
    """Data there and back."""
    assert len(client.echo(ECHOED)) == len(ECHOED)


def settle(client: Client) -> None:
    """A structure there, a number back."""
    assert client.settle(client.order) == TOTAL


def ring(client: Client) -> None:
    """A call during which the other process calls back."""
    assert client.ring(1) == 2


def stream(client: Client) -> None:
    """An iterator, to its end."""
    assert sum(client.numbers(STREAMED)) == STREAMED * (STREAMED - 1) // 2


def calling(way: Way[Client], turn: Turn) -> Way[Call]:
    """A way to do that again and again."""
    return Way(way.serve, partial(_calling, way.connect, turn), way.arguments, way.network)


@contextmanager
def _calling(
    connect: Callable[[Address], AbstractContextManager[Client]], turn: Turn, address: Address
) -> Iterator[Call]:
    with connect(address) as client:
        yield lambda _: turn(client)


@contextmanager
def request_echo(address: Address) -> Iterator[Call]:
    """Data there and back by requests of portkit's, to compare with :func:`echo`."""
    with raw.remote(address) as port:
        yield lambda _: port.request(ECHOED)


def noting(way: Way[Client]) -> Way[Send]:
    """A way to call one way."""
    return Way(way.serve, partial(_noting, way.connect), way.arguments, way.network)


@contextmanager
def _noting(
    connect: Callable[[Address], AbstractContextManager[Client]], address: Address
) -> Iterator[Send]:
    with connect(address) as client:
        yield client.note


def concurrent_round_trips(way: Way[Call], callers: int, shared: bool, count: int) -> Sample:
    """So many calls of so many threads; one client for all of them, or each its own."""
    each = count // callers + 1
    step = Barrier(callers + 1, timeout=PATIENCE)
    with ExitStack() as stack:
        address, server = stack.enter_context(way.serving())
        client = stack.enter_context(way.connect(address)) if shared else None
        pool = stack.enter_context(ThreadPoolExecutor(callers))

        def call_often() -> list[int]:
            try:
                with nullcontext(client) if client else way.connect(address) as call:
                    time_calls(call, each // 10 + 1)
                    step.wait()
                    step.wait()
                    took = time_calls(call, each)
                    step.wait()
                    return took
            except BaseException:
                step.abort()
                raise

        futures = [pool.submit(call_often) for _ in range(callers)]
        try:
            step.wait()
            gc.collect()
            cpu = cpu_ns(server)
            start = perf_counter_ns()
            step.wait()
            step.wait()
            seconds = (perf_counter_ns() - start) / 1e9
            cpu = cpu_ns(server) - cpu
        except BrokenBarrierError:
            raise _first_failure(futures) from None
        took = [one for future in futures for one in future.result()]
    return {"rate": len(took) / seconds / 1e3} | latencies(took, cpu)


def _first_failure(futures: Iterable[Future[list[int]]]) -> BaseException:
    errors = [future.exception(PATIENCE) for future in futures]
    causes = [error for error in errors if error and not isinstance(error, BrokenBarrierError)]
    return causes[0] if causes else RuntimeError(f"the callers were not done within {PATIENCE} s")
