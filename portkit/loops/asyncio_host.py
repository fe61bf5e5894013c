"""asyncio on a run loop: an event loop that sleeps in the run loop of its thread."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from portkit import clock
from portkit.runloop import DEFAULT_MODE, RunLoop
from portkit.runloop.activation import POLL_ONCE
from portkit.runloop.poller import READ
from portkit.runloop.pump import PumpSource
from portkit.runloop.stepping import SteppedRun

if TYPE_CHECKING:
    from portkit.message import PortMessage
    from portkit.runloop.mode import Mode


def new_event_loop() -> asyncio.SelectorEventLoop:
    """A new asyncio event loop that runs the default mode of its thread's run loop as well.

    What is added to ``RunLoop.current()`` is served while asyncio runs: ports, sources, timers,
    performed calls, and objects of :mod:`portkit.remote`, whose methods may be ``async``. Callbacks
    of either may use the other: a delegate may create a task. Nothing is polled: the thread sleeps
    once, until there is something for one of the two.

    A run of the run loop inside a callback works as ever; asyncio pauses until it ends.
    ``RunLoop.stop()`` ends ``run_forever`` as the event loop's own ``stop`` does. An exception of
    a run loop's callback goes to its exception handler, a ``KeyboardInterrupt`` leaves both.

    For ``asyncio.Runner(loop_factory=new_event_loop)``.
    """
    return _EventLoop()


class _EventLoop(asyncio.SelectorEventLoop):
    """asyncio's own event loop, with another way to wait."""

    def __init__(self) -> None:
        self._waiting = _Selector()
        self._answering: set[asyncio.Task[None]] = set()
        super().__init__(self._waiting)

    def run_forever(self) -> None:
        """As in asyncio, as part of a run of this thread's run loop."""
        if self.is_closed() or self.is_running():
            super().run_forever()  # which says so
        run_loop = RunLoop.current()
        before, run_loop._task_starter = run_loop._task_starter, self._await
        try:
            with self._waiting.hosted(self):
                super().run_forever()
        finally:
            run_loop._task_starter = before

    def _await(self, message: PortMessage, answering: Coroutine[Any, Any, None]) -> None:
        """Await what answers a message, until that is done or its requester has given up."""
        task = self.create_task(answering)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        if message.is_request:
            message.add_abandon_handler(lambda _: task.cancel())
            task.add_done_callback(lambda _: message.drop())


class _Selector(selectors.DefaultSelector):
    """Watches asyncio's descriptors; the run loop watches the selector's own."""

    def __init__(self) -> None:
        super().__init__()
        self._run: _HostedRun | None = None
        self._host: asyncio.SelectorEventLoop | None = None

    @contextmanager
    def hosted(self, host: asyncio.SelectorEventLoop) -> Iterator[None]:
        """Meanwhile, make each wait part of a run of the current run loop's default mode."""
        run_loop = RunLoop.current()
        run = _HostedRun(run_loop, run_loop._table.ensure(DEFAULT_MODE), self.fileno())
        self._run, self._host = run, host
        try:
            run.begin()
            yield
        finally:
            self._run = self._host = None
            run.end()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Make one pass of the run loop, which waits; what descriptors of asyncio are ready."""
        run, host = self._run, self._host
        if run is None or host is None:
            return super().select(timeout)
        if timeout is None:
            deadline = math.inf
        else:
            deadline = clock.now() + timeout if timeout > 0 else POLL_ONCE
        run.make_pass(deadline)
        if run.take_stop():
            host.stop()
        return super().select(0) if run.is_ready else []


class _HostedRun(SteppedRun):
    """The run of which asyncio's waits are the passes.

    Attributes:
        is_ready: the last pass found one of asyncio's descriptors ready.
    """

    __slots__ = ("_source", "is_ready")

    def __init__(self, loop: RunLoop, mode: Mode, fd: int) -> None:
        super().__init__(loop, mode)
        self.is_ready = False
        self._source = PumpSource(fd, self._found, interest=READ)

    @property
    def done(self) -> bool:
        """Whether asyncio is to have its turn: always after a wait, or for its descriptors."""
        return self.is_ready or super().done

    def begin(self) -> None:
        """Have asyncio's descriptors end a wait of the run loop."""
        self._loop._add(self._source, self.activation.mode.name)
        super().begin()

    def end(self) -> None:
        """Watch them no more."""
        self._source.invalidate()
        super().end()

    def make_pass(self, deadline: float) -> None:
        """As in the base, watching asyncio's descriptors."""
        self.is_ready = False
        self._source.watch(READ)
        super().make_pass(deadline)

    def _found(self) -> None:
        if self._loop._activation is self.activation:
            self.is_ready = True
        else:
            self._source.watch(0)  # a run inside a callback: asyncio pauses, and its descriptors
