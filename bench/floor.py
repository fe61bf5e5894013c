"""The least that a thread which may sleep must do: a deque, a pipe to wake it, poll(2).

No bound, no time-outs, no endings, no errors: what a port could cost at best in Python.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.background import background
from bench.measure import Call, Handler, Send, SendBatch, echo


class _Channel:
    """Rings only when the taker sleeps, as every fair design does."""

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.asleep = False
        self.read_fd, self.write_fd = os.pipe()
        self.poll = select.poll()
        self.poll.register(self.read_fd, select.POLLIN)

    def put(self, item: Any) -> None:
        self.queue.append(item)
        self._ring()

    def put_many(self, items: list[Any]) -> None:
        self.queue.extend(items)
        self._ring()

    def get(self) -> Any:
        queue = self.queue
        while not queue:
            self.asleep = True
            if queue:
                break
            self.poll.poll()
            os.read(self.read_fd, 4096)
        self.asleep = False
        return queue.popleft()

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)

    def _ring(self) -> None:
        if self.asleep:
            self.asleep = False
            os.write(self.write_fd, b"\0")


@contextmanager
def call() -> Iterator[Call]:
    """Two channels."""
    requests, replies = _Channel(), _Channel()

    def serve() -> None:
        while (payload := requests.get()) is not None:
            replies.put(echo(payload))

    def ask(payload: bytes) -> Any:
        requests.put(payload)
        return replies.get()

    with background(serve, lambda: requests.put(None)):
        yield ask
    requests.close()
    replies.close()


@contextmanager
def _receiver(handler: Handler) -> Iterator[_Channel]:
    channel = _Channel()

    def serve() -> None:
        while (payload := channel.get()) is not None:
            handler(payload)

    with background(serve, lambda: channel.put(None)):
        yield channel
    channel.close()


@contextmanager
def send(handler: Handler) -> Iterator[Send]:
    """One payload at a time."""
    with _receiver(handler) as channel:
        yield channel.put


@contextmanager
def send_many(handler: Handler) -> Iterator[SendBatch]:
    """Many at once, with one ring."""
    with _receiver(handler) as channel:
        yield channel.put_many
