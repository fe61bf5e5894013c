"""A thread that runs an asyncio event loop, and calls of other threads that it answers."""

from __future__ import annotations

import asyncio
import atexit
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread, current_thread
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakSet

from portkit import _fork
from portkit._report import logger
from portkit.errors import TransportError

T = TypeVar("T")

_START = 15.0
"""Seconds for the thread to begin; only a machine at its end needs more."""
_SLACK = 10.0
"""Seconds that an answer, or the end, may take beyond what it is known to wait for."""
_AT_EXIT = 2.0
"""Seconds for which the end of a process waits for all threads together to say goodbye."""


class AsyncThread(ABC):
    """A thread with an event loop, until :meth:`close`.

    What a subclass keeps belongs to that loop: its coroutines run there, and only there. The
    thread holds this object, so it needs an owner that closes it.

    Args:
        name: the thread's.
        what: what this is, for messages: "the name server".

    Raises:
        TransportError: :meth:`serve` raised before it said that it began, or never did.
    """

    def __init__(self, name: str, what: str) -> None:
        self._what = what
        self._generation = _fork.generation
        self._calls: set[Future[Any]] = set()
        self._tasks: dict[Future[Any], asyncio.Task[None]] = {}
        self._closed = False
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        started: Future[None] = Future()
        self._thread = Thread(target=self._run, args=(started,), name=name, daemon=True)
        self._thread.start()
        try:
            started.result(_START)
        except TimeoutError:
            self.begin_to_close()
            raise TransportError(f"{what} did not start: the machine is overloaded") from None

    @abstractmethod
    async def serve(self, began: Callable[[], None], end: asyncio.Event) -> None:
        """What the thread does: open, call ``began``, wait for ``end``, close."""

    @property
    def is_closed(self) -> bool:
        """Whether no call is answered any more."""
        return self._closed or self._generation != _fork.generation

    def call(self, make: Callable[[], Coroutine[Any, Any, T]], timeout: float | None) -> T:
        """What the coroutine returns that ``make`` makes on the loop; any other thread.

        Args:
            make: makes the coroutine. It is cancelled if this call ends before it.
            timeout: how many seconds it may wait, beside the work it does.

        Raises:
            TransportError: this is closed, or made before a fork, or the thread does not answer.
        """
        if self._generation != _fork.generation:
            raise TransportError(f"{self._what} was made before the fork: make a new one")
        answer: Future[T] = Future()
        self._calls.add(answer)
        try:
            if self._closed or not self._soon(self._begin, make, answer):
                raise self._is_closed_error()
            return answer.result(None if timeout is None else max(0.0, timeout) + _SLACK)
        except TimeoutError:
            if answer.done():
                raise  # the coroutine's own
            raise TransportError(
                f"{self._what} does not answer: the machine is overloaded"
            ) from None
        finally:
            self._calls.discard(answer)
            if not answer.done():
                answer.cancel()  # of no effect once it runs, which what follows ends
                self._soon(self._give_up, answer)

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Have the loop call ``fn``; nothing if this is closed. Takes no lock."""
        if self._generation == _fork.generation:
            self._soon(fn, *args)

    def close(self, timeout: float = _SLACK) -> None:
        """End the thread, and wait for that. Idempotent; any thread."""
        self.begin_to_close()
        if self._generation == _fork.generation and current_thread() is not self._thread:
            self._thread.join(timeout)

    def begin_to_close(self) -> None:
        """As :meth:`close`, without waiting. Takes no lock: finalizers may call it."""
        self.call_soon(self._set_end)

    def _soon(self, fn: Callable[..., object], *args: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _is_closed_error(self) -> TransportError:
        return TransportError(f"{self._what} is closed: make a new one")

    # On the thread.

    def _run(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._main(started))
        except Exception as error:
            if started.done():
                logger.error("%s ended by an error", self._what, exc_info=error)
            else:
                started.set_exception(error)
        finally:
            self._closed = True
            for answer in list(self._calls):
                if not answer.done() and not answer.running():  # the loop never came to it
                    answer.set_exception(self._is_closed_error())

    async def _main(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()

        def began() -> None:
            started.set_result(None)
            _open.add(self)

        try:
            await self.serve(began, self._end)
        finally:
            self._closed = True
            _open.discard(self)

    def _set_end(self) -> None:
        self._end.set()

    def _begin(self, make: Callable[[], Coroutine[Any, Any, Any]], answer: Future[Any]) -> None:
        if self._closed or not answer.set_running_or_notify_cancel():
            return
        task = self._loop.create_task(self._answer(make, answer))
        self._tasks[answer] = task
        task.add_done_callback(lambda _: self._tasks.pop(answer))

    async def _answer(
        self, make: Callable[[], Coroutine[Any, Any, Any]], answer: Future[Any]
    ) -> None:
        try:
            result = await make()
        except asyncio.CancelledError:
            answer.set_exception(self._is_closed_error())
            raise
        except Exception as error:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def _give_up(self, answer: Future[Any]) -> None:
        task = self._tasks.get(answer)
        if task is not None:
            task.cancel()


_open: WeakSet[AsyncThread] = WeakSet()


def _close_at_exit() -> None:
    threads = [thread for thread in list(_open) if thread._generation == _fork.generation]
    for thread in threads:
        thread.begin_to_close()
    deadline = monotonic() + _AT_EXIT
    for thread in threads:
        thread.close(max(0.0, deadline - monotonic()))


atexit.register(_close_at_exit)
