"""Taking the time of a way to talk between processes, and the memory it needs.

CPU time is that of both processes. Each sampling starts its own server and ends it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import perf_counter_ns, process_time_ns
from typing import TypeAlias, TypeVar

from bench.ipc.spawn import Serve, Spawned, Way, new_address, spawned
from bench.measure import BATCH, PAYLOAD, Call, Send, SendBatch, latencies, time_calls
from bench.model import Sample

Once: TypeAlias = "Callable[[], object]"
"""Connects, sends a message, waits for its answer, and closes."""

T = TypeVar("T")


def round_trips(way: Way[Call], count: int) -> Sample:
    """Call and wait for the answer, one call after the other."""
    with way.open() as (call, server):
        time_calls(call, count // 10 + 1)
        gc.collect()
        cpu = _cpu(server)
        took = time_calls(call, count)
        return latencies(took, _cpu(server) - cpu)


def large(way: Way[Call], size: int, count: int) -> Sample:
    """Send so many bytes and wait for the answer that says they were received and touched."""
    payload = bytes(range(256)) * (size // 256)
    with way.open() as (call, server):
        time_calls(call, count // 4 + 1, payload)
        gc.collect()
        cpu = _cpu(server)
        took = time_calls(call, count, payload)
        cpu = _cpu(server) - cpu
    return {
        "p50": sorted(took)[count // 2] / 1e6,
        "max": max(took) / 1e6,
        "cpu": cpu / count / 1e6,
    }


def one_way(way: Way[Send], count: int) -> Sample:
    """Send as fast as possible, until the other process says that the last one was handled."""

    def send_all(send: Send, count: int) -> None:
        for _ in range(count):
            send(PAYLOAD)

    return _rate(way, send_all, count)


def one_way_batches(way: Way[SendBatch], count: int) -> Sample:
    """As :func:`one_way`, handing over :data:`BATCH` payloads at a time."""

    def send_all(send_batch: SendBatch, count: int) -> None:
        for _ in range(count // BATCH):
            send_batch([PAYLOAD] * BATCH)

    return _rate(way, send_all, count)


def connections(way: Way[Once], count: int) -> Sample:
    """Connect, get an answer and close, one after the other."""
    with way.open() as (once, server):
        for _ in range(count // 10 + 1):
            once()
        gc.collect()
        cpu = _cpu(server)
        start = perf_counter_ns()
        for _ in range(count):
            once()
        took = perf_counter_ns() - start
        return {"rate": count / took * 1e9, "cpu": (_cpu(server) - cpu) / count / 1e3}


def idle_connections(serve: Serve, crowd: Serve, count: int) -> Sample:
    """By how much the server grows for each of so many processes that are connected and idle.

    Some are there before: what a server needs once is not theirs.
    """
    with (
        new_address() as address,
        spawned(serve, address, "keep") as server,
        spawned(crowd, address, str(count // 5 + 1)),
    ):
        before = server.memory()
        with spawned(crowd, address, str(count)):
            return {"server": max(0, server.memory() - before) / count / 1024}


def _rate(way: Way[T], send_all: Callable[[T, int], None], count: int) -> Sample:
    count = max(BATCH, count // BATCH * BATCH)
    with way.open() as (send, server):
        _deliver(server, send, send_all, max(BATCH, count // 10 // BATCH * BATCH))
        gc.collect()
        cpu = _cpu(server)
        took = _deliver(server, send, send_all, count)
        return {"rate": count / took * 1e6, "cpu": (_cpu(server) - cpu) / count / 1e3}


def _deliver(server: Spawned, send: T, send_all: Callable[[T, int], None], count: int) -> int:
    """Nanoseconds from before the first was sent until the last was handled."""
    server.expect(count)
    start = perf_counter_ns()
    send_all(send, count)
    server.wait_for("done")
    return perf_counter_ns() - start


def _cpu(server: Spawned) -> int:
    """What both processes have used, in nanoseconds."""
    return process_time_ns() + server.cpu_ns()
