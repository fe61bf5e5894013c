"""A run loop as the guest of another event loop, which waits on one descriptor for all of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from portkit import _fork, clock
from portkit._wakeup import Pipe
from portkit.errors import LoopEndedError
from portkit.runloop.activation import POLL_ONCE
from portkit.runloop.constants import Activity
from portkit.runloop.poller import READ
from portkit.runloop.pump import PumpSource
from portkit.runloop.stepping import SteppedRun

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


class Bell(Pipe):
    """Wakes the host of a guest run, once for each time that the run rests.

    As with a :class:`~portkit._wakeup.Waiter`, what happened is recorded before it rings, and who
    arms it looks at that record afterwards.
    """

    __slots__ = ("armed",)

    def __init__(self) -> None:
        super().__init__()
        self.armed: bool = False

    def ring(self) -> None:
        """Make the descriptor readable, if it is armed. Takes no lock."""
        if self.armed:
            self.armed = False
            try:
                super().ring()
            except BaseException:
                super().ring()  # a signal handler raised: who is not armed must have been rung
                raise


class GuestRun(SteppedRun):
    """A run of one mode inside an event loop that is not portkit's, its host.

    The host watches :meth:`fileno`, one level-triggered descriptor for all that the mode holds:
    ports, sources, timers and performed calls. When it is readable, and when the time is over that
    the last call returned, the host calls :meth:`process` on the loop's thread. Timers that are
    set or moved meanwhile, by any thread, make the descriptor readable too.

    Observers are told as in a run that does not end; before waiting, when ``process`` found nothing
    more to do. ``loop.stop()`` ends the run; tell the host with ``stopped``. A guest run is a
    context manager: leaving it ends the run.

    Get it with :meth:`RunLoop.start_guest_run`.
    """

    __slots__ = ("_bell", "_idle", "_source", "_stopped")

    def __init__(self, loop: RunLoop, mode: Mode, stopped: Callable[[], object] | None) -> None:
        """For :meth:`RunLoop.start_guest_run`; not for users."""
        super().__init__(loop, mode)
        self._bell: Bell | None
        self._stopped = stopped
        self._idle = False
        bell = self._bell = Bell()
        self._source = PumpSource(bell.read_fd, self._rung, interest=READ, lost=self._lost)

    @property
    def is_valid(self) -> bool:
        """Whether the run goes on: it was not ended or stopped, nor has its thread ended."""
        return not self.is_over

    def begin(self) -> None:
        """For :meth:`RunLoop.start_guest_run`."""
        mode = self.activation.mode
        self._loop._add(self._source, mode.name)
        mode.bell = self._bell
        try:
            super().begin()
            self.rest()
        except BaseException:
            self.end()
            raise

    def fileno(self) -> int:
        """The descriptor, the same as long as the thread lives. Only to be watched for reading.

        Take it out of the host before the thread ends.

        Raises:
            LoopEndedError: the run has ended, or the process was forked.
        """
        self._check()
        poller = self.activation.mode.poller
        assert poller is not None, "the bell's source made one"
        return poller.fileno()

    def process(self) -> float | None:
        """Make one pass without waiting, whether or not there is anything to do.

        It may be called inside a callback that it makes itself: by a dialogue, for one, that runs
        the host's loop until it is closed.

        Returns:
            After how many seconds to call it again though the descriptor is not readable: 0.0 if a
            timer is due; None if no timer waits.

        Raises:
            WrongThreadError: this is not the loop's thread.
            LoopEndedError: the run has ended, or the process was forked.
        """
        self._check()
        self._loop._check_thread("GuestRun.process()")
        try:
            if self._idle:
                self._idle = False
                self._observe(Activity.AFTER_WAITING)
            self.make_pass(POLL_ONCE)
            if not self.is_over and not self._has_more:
                self._observe(Activity.BEFORE_WAITING)
                self._idle = True
        finally:
            self._loop._waiter.flush()  # what the callbacks sent, as before any wait
            self.rest()
        if not self.is_over and self.take_stop():
            self.end()
            if self._stopped is not None:
                self._stopped()
        return self._delay()

    def end(self) -> None:
        """End the run; on the loop's thread, also from inside a callback. Idempotent.

        Take the descriptor out of the host before. What the mode holds stays there.
        """
        if not self.is_over:
            if self._loop._generation == _fork.generation and not self._loop._ended:
                self._loop._check_thread("GuestRun.end()")
            self._lost()
            self._source.invalidate()
            self.activation.stopped = True  # so that a pass under way ends early
            super().end()

    def ring(self) -> None:
        """Make the descriptor readable. Any thread."""
        bell = self._bell
        if bell is not None:
            bell.ring()

    def rest(self) -> None:
        """Have the host wait from now on, or come back where there is something to do already."""
        bell = self._bell
        if bell is None:
            return
        bell.armed = True
        if self._has_more:
            bell.ring()
        else:
            self._loop._is_waiting = self._idle and self._loop._activation is None

    @property
    def _has_more(self) -> bool:
        loop, mode = self._loop, self.activation.mode
        return bool(mode.ready or mode.fired or loop._woken or loop._blocks.has_any(mode))

    def _delay(self) -> float | None:
        date = self.activation.mode.timers.wake_date
        return None if self.is_over or date == math.inf else max(0.0, date - clock.now())

    def _rung(self) -> None:
        bell = self._bell
        if bell is not None:
            bell.drain()
            # A callback of this pass may run the host's loop, which is to hear of what comes later.
            bell.armed = True

    def _lost(self) -> None:
        """The run ends, or the thread does: nobody is to be rung any more.

        A thread that is just ringing closes the bell. A traceback that somebody keeps does not hold
        it, as it would through the run.
        """
        self._bell = self.activation.mode.bell = None

    def _check(self) -> None:
        self._loop._check_alive()
        if self.is_over:
            raise LoopEndedError("this guest run has ended: start another with start_guest_run()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def __repr__(self) -> str:
        state = " over" if self.is_over else ""
        return f"<GuestRun of mode {self.activation.mode.name!r}{state}>"
