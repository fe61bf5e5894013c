"""Taking the time of a way to talk between threads, whatever it is.

A way is given as one of two things, opened for each sampling and closed after it:

* a *caller*: ``call(payload)`` returns when the other thread has answered;
* a *receiver*: made with a handler, it gives ``send(payload)``, and calls the handler on another
  thread for every payload, with whatever that way hands to a handler.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from threading import Event
from time import perf_counter_ns, process_time_ns
from typing import Any, Generic, TypeAlias, TypeVar

from bench.model import Sample

T = TypeVar("T")

Call: TypeAlias = "Callable[[bytes], object]"
Send: TypeAlias = "Callable[[bytes], object]"
SendBatch: TypeAlias = "Callable[[list[bytes]], object]"
Handler: TypeAlias = "Callable[[Any], object]"
Caller: TypeAlias = "Callable[[], AbstractContextManager[Call]]"
Receiver: TypeAlias = "Callable[[Handler], AbstractContextManager[Send]]"
BatchReceiver: TypeAlias = "Callable[[Handler], AbstractContextManager[SendBatch]]"

PAYLOAD = bytes(64)
BATCH = 64
PAUSE = 0.002
"""Seconds between wake-ups: the receiver is asleep again long before."""
_PATIENCE = 60.0
"""Seconds until a way that does not answer is given up."""


def echo(payload: bytes) -> bytes:
    """What answers a call."""
    return payload


def round_trips(open_caller: Caller, count: int) -> Sample:
    """Call and wait for the answer, one call after the other."""
    with open_caller() as call:
        time_calls(call, count // 10 + 1)
        gc.collect()
        cpu = process_time_ns()
        took = time_calls(call, count)
        return latencies(took, process_time_ns() - cpu)


def ping_pong(open_receiver: Receiver, count: int) -> Sample:
    """Two receivers throw one payload to and fro: a round trip between two loops."""
    match = _Match()
    with ExitStack() as stack:
        match.to_left = stack.enter_context(open_receiver(match.on_left))
        match.to_right = stack.enter_context(open_receiver(match.on_right))
        match.play(count // 10 + 1)
        gc.collect()
        cpu = process_time_ns()
        took = match.play(count)
        return latencies(took, process_time_ns() - cpu)


def one_way(open_receiver: Receiver, count: int) -> Sample:
    """Send as fast as possible, until the last message was handled."""
    countdown = _Countdown()
    with open_receiver(countdown) as send:
        return _rate(countdown, partial(_send_singly, send), count)


def one_way_batches(open_receiver: BatchReceiver, count: int) -> Sample:
    """As :func:`one_way`, handing over :data:`BATCH` payloads at a time."""
    countdown = _Countdown()
    with open_receiver(countdown) as send_batch:
        return _rate(countdown, partial(_send_batches, send_batch), count)


def wake_ups(open_receiver: Receiver, count: int) -> Sample:
    """Send to a receiver that sleeps: the time until its handler begins."""
    landed: list[int] = []

    def land(_: Any) -> None:
        landed.append(perf_counter_ns())

    took: list[int] = []
    cpu = 0
    with open_receiver(land) as send:
        for number in range(count + 10):
            time.sleep(PAUSE)
            cpu = cpu if number > 10 else process_time_ns()
            start = perf_counter_ns()
            send(PAYLOAD)
            while len(landed) <= number:
                _check_patience(start)
                time.sleep(PAUSE)
            took.append(landed[number] - start)
        return latencies(took[10:], process_time_ns() - cpu)


class _Match:
    """A ball between two receivers; the left one keeps the time."""

    to_left: Send
    to_right: Send

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.wanted = 0
        self.over = Event()

    def play(self, rounds: int) -> list[int]:
        """So many round trips; the nanoseconds of each."""
        self.stamps = []
        self.wanted = rounds + 1
        self.over.clear()
        self.to_left(PAYLOAD)
        if not self.over.wait(_PATIENCE):
            raise RuntimeError(f"nothing came back within {_PATIENCE} s")
        return [after - before for before, after in zip(self.stamps, self.stamps[1:], strict=False)]

    def on_left(self, _: Any) -> None:
        self.stamps.append(perf_counter_ns())
        if len(self.stamps) < self.wanted:
            self.to_right(PAYLOAD)
        else:
            self.over.set()

    def on_right(self, _: Any) -> None:
        self.to_left(PAYLOAD)


class _Countdown:
    """A handler that notes when it was called for the last time."""

    def __init__(self) -> None:
        self.left = 0
        self.ended = 0
        self.over = Event()

    def __call__(self, _: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.ended = perf_counter_ns()
            self.over.set()

    def run(self, send_all: Callable[[int], None], count: int) -> int:
        """Nanoseconds from before the first was sent until the last was handled."""
        self.left = count
        self.over.clear()
        start = perf_counter_ns()
        send_all(count)
        if not self.over.wait(_PATIENCE):
            raise RuntimeError(f"{self.left} of {count} messages did not arrive")
        return self.ended - start


def _send_singly(send: Send, count: int) -> None:
    for _ in range(count):
        send(PAYLOAD)


def _send_batches(send_batch: SendBatch, count: int) -> None:
    for _ in range(count // BATCH):
        send_batch([PAYLOAD] * BATCH)


def _rate(countdown: _Countdown, send_all: Callable[[int], None], count: int) -> Sample:
    count = max(BATCH, count // BATCH * BATCH)
    countdown.run(send_all, max(BATCH, count // 10 // BATCH * BATCH))
    gc.collect()
    cpu = process_time_ns()
    took = countdown.run(send_all, count)
    return {"rate": count / took * 1e6, "cpu": (process_time_ns() - cpu) / count / 1e3}


class Repeating(Generic[T]):
    """A call, or a send, of a client that lives in an event loop, and so repeats it itself.

    Attributes:
        repeat: does it so often with that payload; gives the nanoseconds of each call.
    """

    def __init__(self, repeat: Callable[[int, T], list[int]]) -> None:
        self.repeat = repeat

    def __call__(self, payload: T) -> object:
        return self.repeat(1, payload)


def repeat(send: Callable[[T], object], count: int, payload: T) -> None:
    """Send so often."""
    if isinstance(send, Repeating):
        send.repeat(count, payload)
    else:
        for _ in range(count):
            send(payload)


def time_calls(call: Call, count: int, payload: bytes = PAYLOAD) -> list[int]:
    """Nanoseconds of each of so many calls."""
    if isinstance(call, Repeating):
        return call.repeat(count, payload)
    took = []
    for _ in range(count):
        start = perf_counter_ns()
        call(payload)
        took.append(perf_counter_ns() - start)
    return took


def latencies(took: list[int], cpu: int) -> Sample:
    """Percentiles and CPU time per round, both sides together, in microseconds."""
    ordered = sorted(took)
    return {
        "p50": ordered[len(ordered) // 2] / 1e3,
        "p99": ordered[len(ordered) * 99 // 100] / 1e3,
        "cpu": cpu / len(took) / 1e3,
    }


def _check_patience(start: int) -> None:
    if perf_counter_ns() - start > _PATIENCE * 1e9:
        raise RuntimeError(f"nothing arrived within {_PATIENCE} s")
