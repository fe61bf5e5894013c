"""What Python has for talking between threads: queues and asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import Queue, SimpleQueue
from typing import Any, TypeAlias

from bench.background import background
from bench.measure import Call, Handler, Send, SendBatch, echo

_AnyQueue: TypeAlias = "SimpleQueue[Any] | Queue[Any]"
NewQueue: TypeAlias = "Callable[[], _AnyQueue]"

bounded_queue: NewQueue = partial(Queue, 1024)
"""``queue.Queue`` with the limit that a port has by default."""


@contextmanager
def queue_call(new_queue: NewQueue) -> Iterator[Call]:
    """One queue for calls, one for answers."""
    requests, replies = new_queue(), new_queue()

    def serve() -> None:
        while (payload := requests.get()) is not None:
            replies.put(echo(payload))

    def ask(payload: bytes) -> Any:
        requests.put(payload)
        return replies.get()

    with background(serve, lambda: requests.put(None)):
        yield ask


@contextmanager
def queue_send(new_queue: NewQueue, handler: Handler) -> Iterator[Send]:
    """A thread that takes from a queue."""
    queue = new_queue()

    def serve() -> None:
        while (payload := queue.get()) is not None:
            handler(payload)

    with background(serve, lambda: queue.put(None)):
        yield queue.put


@contextmanager
def queue_send_lists(new_queue: NewQueue, handler: Handler) -> Iterator[SendBatch]:
    """A thread that takes lists from a queue."""
    queue = new_queue()

    def serve() -> None:
        while (batch := queue.get()) is not None:
            for payload in batch:
                handler(payload)

    with background(serve, lambda: queue.put(None)):
        yield queue.put


@contextmanager
def running_asyncio() -> Iterator[asyncio.AbstractEventLoop]:
    """A thread that runs an asyncio loop."""
    loop = asyncio.new_event_loop()
    with background(loop.run_forever, lambda: loop.call_soon_threadsafe(loop.stop)):
        yield loop
    loop.close()


@contextmanager
def asyncio_call() -> Iterator[Call]:
    """``call_soon_threadsafe``, answered through a ``concurrent.futures.Future``."""

    def serve(payload: bytes, future: Future[bytes]) -> None:
        future.set_result(echo(payload))

    with running_asyncio() as loop:

        def ask(payload: bytes) -> bytes:
            future: Future[bytes] = Future()
            loop.call_soon_threadsafe(serve, payload, future)
            return future.result()

        yield ask


@contextmanager
def asyncio_send(handler: Handler) -> Iterator[Send]:
    """``call_soon_threadsafe``."""
    with running_asyncio() as loop:
        post: Callable[..., object] = loop.call_soon_threadsafe
        yield partial(post, handler)


@contextmanager
def asyncio_send_lists(handler: Handler) -> Iterator[SendBatch]:
    """``call_soon_threadsafe`` of a function that handles a list."""

    def handle(batch: list[bytes]) -> None:
        for payload in batch:
            handler(payload)

    with running_asyncio() as loop:
        post: Callable[..., object] = loop.call_soon_threadsafe
        yield partial(post, handle)
