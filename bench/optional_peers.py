"""Libraries for talking between threads that only the ``bench`` extra installs: janus and pyzmq."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.background import background
from bench.measure import Call, Handler, Send, SendBatch, echo
from bench.optional import missing, optional
from bench.peers import running_asyncio

janus = optional("janus")
zmq = optional("zmq")
missing_janus = missing(janus)
missing_zmq = missing(zmq)

_STOP = b"stop"


@contextmanager
def janus_call() -> Iterator[Call]:
    """Two janus queues, with a task at their asyncio ends."""

    async def serve() -> None:
        while (payload := await requests.async_q.get()) is not None:
            await replies.async_q.put(echo(payload))

    def ask(payload: bytes) -> Any:
        requests.sync_q.put(payload)
        return replies.sync_q.get()

    with running_asyncio() as loop:
        requests, replies = _on(loop, _new_janus_queue()), _on(loop, _new_janus_queue())
        task = asyncio.run_coroutine_threadsafe(serve(), loop)
        try:
            yield ask
        finally:
            requests.sync_q.put(None)
            task.result(5.0)
            _on(loop, requests.aclose())
            _on(loop, replies.aclose())


@contextmanager
def janus_send(handler: Handler) -> Iterator[Send]:
    """A janus queue, with a task at its asyncio end."""

    async def serve() -> None:
        while (payload := await queue.async_q.get()) is not None:
            handler(payload)

    with running_asyncio() as loop:
        queue = _on(loop, _new_janus_queue())
        task = asyncio.run_coroutine_threadsafe(serve(), loop)
        try:
            yield queue.sync_q.put
        finally:
            queue.sync_q.put(None)
            task.result(5.0)
            _on(loop, queue.aclose())


async def _new_janus_queue() -> Any:
    return janus.Queue(1024)


def _on(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(5.0)


@contextmanager
def _zmq_pair(here: str, there: str) -> Iterator[tuple[Any, Any]]:
    """Two connected inproc sockets, by the names of their types."""
    context = zmq.Context()
    ours, theirs = context.socket(getattr(zmq, here)), context.socket(getattr(zmq, there))
    try:
        theirs.bind("inproc://bench")
        ours.connect("inproc://bench")
        yield ours, theirs
    finally:
        ours.close(linger=0)
        theirs.close(linger=0)
        context.term()


@contextmanager
def zmq_call(here: str, there: str) -> Iterator[Call]:
    """``send`` and ``recv`` on inproc sockets."""

    def serve() -> None:
        while (payload := theirs.recv()) != _STOP:
            theirs.send(echo(payload))

    def ask(payload: bytes) -> Any:
        ours.send(payload)
        return ours.recv()

    with _zmq_pair(here, there) as (ours, theirs), background(serve, partial(ours.send, _STOP)):
        yield ask


@contextmanager
def zmq_send(handler: Handler) -> Iterator[Send]:
    """PUSH and PULL over inproc."""

    def serve() -> None:
        while (payload := theirs.recv()) != _STOP:
            handler(payload)

    with _zmq_pair("PUSH", "PULL") as (ours, theirs), background(serve, partial(ours.send, _STOP)):
        yield ours.send


@contextmanager
def zmq_send_multipart(handler: Handler) -> Iterator[SendBatch]:
    """PUSH and PULL over inproc, a batch being the parts of one message."""

    def serve() -> None:
        while (parts := theirs.recv_multipart()) != [_STOP]:
            for payload in parts:
                handler(payload)

    with _zmq_pair("PUSH", "PULL") as (ours, theirs), background(serve, partial(ours.send, _STOP)):
        yield ours.send_multipart
