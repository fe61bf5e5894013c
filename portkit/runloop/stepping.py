"""A run that another event loop makes pass by pass, as its own turns come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit import _fork
from portkit.runloop import activation as engine
from portkit.runloop.activation import POLL_ONCE, Activation
from portkit.runloop.constants import Activity

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


class SteppedRun:
    """A run of one mode whose passes are made one at a time, on the loop's thread.

    Between passes the loop does not run, but :meth:`RunLoop.stop` still finds this run.

    Args:
        loop: the run loop of this thread.
        mode: what to run. An empty mode does not end the run.

    Attributes:
        activation: the run, as the passes know it.
        is_over: whether it has ended.
    """

    __slots__ = ("__weakref__", "_loop", "_outer", "_rests", "activation", "is_over")

    def __init__(self, loop: RunLoop, mode: Mode) -> None:
        self._loop = loop
        self._outer: SteppedRun | None = None
        self._rests = 0
        self.activation: Activation = Activation(mode, POLL_ONCE, awaited=self)
        self.is_over: bool = False

    def begin(self) -> None:
        """Tell the observers of the mode's entry; from now on a stop is for this run."""
        loop = self._loop
        self._outer, loop._stepped = loop._stepped, self
        if loop._is_main and loop._activation is None and self._outer is None:
            engine.catch_signals(loop)
        self._observe(Activity.ENTRY)

    def end(self) -> None:
        """Tell the observers of the exit. Once; the outer run, if there is one, goes on."""
        if self.is_over:
            return
        self.is_over = True
        loop = self._loop
        try:
            if loop._generation == _fork.generation:
                self._observe(Activity.EXIT)
        finally:
            run, self._outer = self._outer, None
            while run is not None and run.is_over:  # ended before this one, which stood above it
                run = run._outer
            if loop._stepped is self:
                loop._stepped = run
                if run is not None:
                    run.rest()
                elif loop._activation is None or loop._activation is self.activation:
                    engine.leave_signals(loop)

    @property
    def done(self) -> bool:
        """Whether the pass under way has waited: all that it waits for ends it."""
        return self.activation.mode.rests != self._rests

    def make_pass(self, deadline: float) -> None:
        """Make one pass, which waits until ``deadline`` if it has nothing to do.

        Raises:
            BaseException: what leaves a run: a KeyboardInterrupt in a callback, for one.
        """
        loop, activation = self._loop, self.activation
        activation.deadline = deadline
        self._rests = activation.mode.rests
        outer, ignoring = loop._activation, loop._ignoring
        try:
            loop._activation = activation
            engine._run_passes(loop, activation)
            loop._check_fork()
        finally:
            loop._waiter.armed = None
            loop._is_waiting = False
            loop._activation = outer
            loop._ignoring = ignoring
            if outer is not None and activation.took_wake:
                loop._woken = True  # it may have been meant for the outer run
            activation.took_wake = False

    def take_stop(self) -> bool:
        """Whether :meth:`RunLoop.stop` was called for this run since the last time."""
        stopped, self.activation.stopped = self.activation.stopped, False
        return stopped

    def ring(self) -> None:
        """Something happened for which a pass is to be made. Any thread."""

    def rest(self) -> None:
        """A run has ended inside this one, which has to look what it left behind."""

    def _observe(self, activity: Activity) -> None:
        loop = self._loop
        outer = loop._activation
        try:
            loop._activation = self.activation
            engine._observe(loop, self.activation.mode, int(activity))
        finally:
            loop._activation = outer
