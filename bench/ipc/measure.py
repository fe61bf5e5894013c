"""Taking the time of a way to talk between processes, and the memory it needs.

CPU time is that of both processes. Each sampling starts its own server and ends it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import perf_counter_ns, process_time_ns
from typing import TypeAlias, TypeVar

from bench.ipc.spawn import Serve, Spawned, Way, spawned
from bench.measure import BATCH, PAYLOAD, Call, Send, SendBatch, latencies, repeat, time_calls
from bench.model import Sample

Once: TypeAlias = "Callable[[], object]"
"""Connects, sends a message, waits for its answer, and closes."""

T = TypeVar("T")


def round_trips(way: Way[Call], count: int) -> Sample:
    """Call and wait for the answer, one call after the other."""
    with way.open() as (call, server):
        time_calls(call, count // 10 + 1)
        gc.collect()
        cpu = cpu_ns(server)
        took = time_calls(call, count)
        return latencies(took, cpu_ns(server) - cpu)


def large(way: Way[Call], size: int, count: int) -> Sample:
    """Send so many bytes and wait for the answer that says they were received and touched."""
    payload = bytes(range(256)) * (size // 256)
    with way.open() as (call, server):
        time_calls(call, count // 4 + 1, payload)
        gc.collect()
        cpu = cpu_ns(server)
        took = time_calls(call, count, payload)
        cpu = cpu_ns(server) - cpu
    return {
        "p50": sorted(took)[count // 2] / 1e6,
        "max": max(took) / 1e6,
        "cpu": cpu / count / 1e6,
    }


def one_way(way: Way[Send], count: int) -> Sample:
    """Send as fast as possible, until the other process says that the last one was handled."""
    return _rate(way, PAYLOAD, 1, count)


def one_way_batches(way: Way[SendBatch], count: int) -> Sample:
    """As :func:`one_way`, handing over :data:`BATCH` payloads at a time."""
    return _rate(way, [PAYLOAD] * BATCH, BATCH, count)


def connections(way: Way[Once], count: int) -> Sample:
    """Connect, get an answer and close, one after the other."""
    with way.open() as (once, server):
        for _ in range(count // 10 + 1):
            once()
        gc.collect()
        cpu = cpu_ns(server)
        start = perf_counter_ns()
        for _ in range(count):
            once()
        took = perf_counter_ns() - start
        return {"rate": count / took * 1e9, "cpu": (cpu_ns(server) - cpu) / count / 1e3}


def idle_connections(way: Way[Call], crowd: Serve, count: int) -> Sample:
    """By how much the server grows for each of so many processes that are connected and idle.

    Some are there before: what a server needs once is not theirs.
    """
    with way.serving() as (address, server), spawned(crowd, address, count // 5 + 1):
        before = server.memory()
        with spawned(crowd, address, count):
            return {"server": _kibibytes_each(before, server, count)}


def crowded_calls(way: Way[Call], crowd: Serve, calls: int, count: int) -> Sample:
    """So many calls while ``count`` others are connected and idle, and what those cost the server.

    The caller is there before: what a server needs once is not theirs.
    """
    with way.serving() as (address, server), way.connect(address) as call:
        time_calls(call, calls // 10 + 1)
        before = server.memory()
        with spawned(crowd, address, count):
            each = _kibibytes_each(before, server, count)
            time_calls(call, calls // 10 + 1)
            cpu = cpu_ns(server)
            took = time_calls(call, calls)
            return {"server": each} | latencies(took, cpu_ns(server) - cpu)


def _kibibytes_each(before: int, server: Spawned, count: int) -> float:
    return max(0, server.memory() - before) / count / 1024


def first_answer(way: Way[Call], count: int) -> Sample:
    """From before connecting until the first answer, and then round trips, in milliseconds."""
    with way.serving() as (address, _):
        start = perf_counter_ns()
        with way.connect(address) as call:
            call(PAYLOAD)
            first = perf_counter_ns() - start
            took = time_calls(call, count)
    return {"first": first / 1e6, "p50": sorted(took)[count // 2] / 1e6}


def _rate(way: Way[Callable[[T], object]], payload: T, batch: int, count: int) -> Sample:
    turns = max(BATCH, count // BATCH * BATCH) // batch
    with way.open() as (send, server):
        _deliver(server, send, payload, batch, turns // 10 + 1)
        gc.collect()
        cpu = cpu_ns(server)
        took = _deliver(server, send, payload, batch, turns)
        cpu = cpu_ns(server) - cpu
        return {"rate": turns * batch / took * 1e6, "cpu": cpu / turns / batch / 1e3}


def _deliver(
    server: Spawned, send: Callable[[T], object], payload: T, batch: int, turns: int
) -> int:
    """Nanoseconds from before the first was sent until the last was handled."""
    server.expect(turns * batch)
    start = perf_counter_ns()
    repeat(send, turns, payload)
    server.wait_for("done")
    return perf_counter_ns() - start


def cpu_ns(server: Spawned) -> int:
    """What both processes have used, in nanoseconds."""
    return process_time_ns() + server.cpu_ns()
