"""The event loops of tasks: a way into each from anywhere, and who waits there for what."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import RunVar, current_token

from portkit import _fork, _thread
from portkit._wakeup import Gathering, Waiter

if TYPE_CHECKING:
    from portkit.port import Port


class EventLoop:
    """The event loop that runs on the current thread, which makes calls that others ask for.

    Attributes:
        turns: for each port that tasks wait for room at, the lock that the next one to get some
            holds, and how many they are.
    """

    __slots__ = ("_call_soon", "_called", "_calls", "_flushing", "_generation", "turns")

    def __init__(self) -> None:
        token: Any = current_token()
        native = getattr(token, "native_token", token)
        # asyncio's event loop, or trio's token.
        found = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        self._call_soon: Callable[[Callable[[], None]], object] = found
        self._calls: deque[Callable[[], object]] = deque()
        self._called = False
        self._flushing = False
        self._generation = _fork.generation
        self.turns: dict[Port, tuple[anyio.Lock, int]] = {}

    def call(self, fn: Callable[[], object]) -> None:
        """Have the event loop call ``fn``, which never raises; many of them in one turn.

        Any thread, finalizers and signal handlers too. Nothing where the event loop has ended.
        """
        self._calls.append(fn)
        if self._called or self._generation != _fork.generation:
            return
        self._called = True
        try:
            self._call_soon(self._run)
        except RuntimeError:  # closed: nobody is left to be told
            self._calls.clear()
        except BaseException:
            self._called = False  # a signal handler raised: the next call rings anew
            raise

    def _run(self) -> None:
        self._called = False
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def flush_soon(self) -> None:
        """Have what this thread has sent, and a link keeps to write it together, written soon."""
        waiter = _thread.present_waiter()
        if waiter is not None and waiter.unflushed and not self._flushing:
            self._flushing = True
            self.call(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        waiter = _thread.present_waiter()
        if waiter is not None:
            waiter.flush()

    @asynccontextmanager
    async def turn(self, port: Port) -> AsyncIterator[None]:
        """One task at a time waits for room at the port, first come first served."""
        lock, users = self.turns.get(port) or (anyio.Lock(), 0)
        self.turns[port] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            _, users = self.turns[port]
            if users == 1:
                del self.turns[port]
            else:
                self.turns[port] = lock, users - 1


_current: RunVar[EventLoop] = RunVar("portkit_event_loop")


def current_event_loop() -> EventLoop:
    """The one of the running event loop, made at first use."""
    try:
        return _current.get()
    except LookupError:
        event_loop = EventLoop()
        _current.set(event_loop)
        return event_loop


class Waker(Waiter):
    """What one task sleeps on: as a thread's waiter, but for an event loop.

    Args:
        event_loop: of the task's event loop.
    """

    __slots__ = ("_event", "_event_loop")

    def __init__(self, event_loop: EventLoop) -> None:  # without a pipe, and so not as Waiter
        self.armed: object = None
        self.asleep: bool = False
        self.sends: int = 0
        self.unflushed: list[Gathering] = []
        self._pipe = None
        self._event_loop = event_loop
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake the task if it sleeps, or is about to. Any thread."""
        if self.armed is not None:
            self.armed = None
            self._event_loop.call(self._wake)

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Sleep until a ring since it was armed, or for no reason."""
        if self.armed is None:
            return
        event = self._event = anyio.Event()
        try:
            await event.wait()
        finally:
            self._event = None
