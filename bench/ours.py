"""portkit between threads: a plain thread, and threads that run a loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

from bench.background import background
from bench.measure import Call, Handler, Send, SendBatch, echo
from portkit import InputSource, MachPort, Port, PortMessage, RunLoop


@contextmanager
def running(*ports: MachPort) -> Iterator[RunLoop]:
    """A thread that runs its loop and serves the ports."""
    loops: SimpleQueue[RunLoop] = SimpleQueue()

    def run() -> None:
        loop = RunLoop.current()
        loop.add_source(InputSource(lambda _: None))
        for port in ports:
            loop.add_port(port)
        loops.put(loop)
        loop.run()

    def stop() -> None:
        loop.perform(loop.stop)

    with background(run, stop):
        loop = loops.get()
        yield loop


@contextmanager
def request() -> Iterator[Call]:
    """``request``, answered by what the delegate returns."""

    def answer(message: PortMessage) -> bytes:
        return echo(message.data or b"")

    with MachPort(answer) as port, running(port):
        yield port.request


class _RawAnswer:
    """A delegate for which no message object is made."""

    def handle_raw_message(
        self, port: Port, msgid: int, components: tuple[Any, ...], reply_port: Port | None
    ) -> bytes:
        return echo(components[0])


@contextmanager
def raw_request() -> Iterator[Call]:
    """``request``, answered by a raw delegate."""
    with MachPort(_RawAnswer()) as port, running(port):
        yield port.request


@contextmanager
def perform_and_wait() -> Iterator[Call]:
    """A call made on the other thread's loop."""
    with running() as loop:
        yield partial(loop.perform_and_wait, echo)


@contextmanager
def send(handler: Handler, *, queue_limit: int = 1024) -> Iterator[Send]:
    """``send`` to a port with the handler as its delegate."""
    with MachPort(handler, queue_limit=queue_limit) as port, running(port):
        yield port.send


@contextmanager
def send_many(handler: Handler) -> Iterator[SendBatch]:
    """``send_many`` to a port with the handler as its delegate."""
    with MachPort(handler) as port, running(port):
        yield port.send_many


@contextmanager
def perform(handler: Handler) -> Iterator[Send]:
    """``perform`` the handler on the other thread's loop."""
    with running() as loop:
        yield partial(loop.perform, handler)


@contextmanager
def signal(handler: Handler) -> Iterator[Send]:
    """``signal`` a source; signals are not counted, so this is for wake-ups only."""
    source = InputSource(handler)
    with running() as loop:
        loop.add_source(source)
        yield lambda _: source.signal()
