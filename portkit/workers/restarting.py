"""The restarts of a group's workers: planned when one is lost, made when a pause is over."""

from __future__ import annotations

from collections.abc import Callable
from signal import Signals

from portkit import clock
from portkit._report import report
from portkit.errors import CheckInTimeoutError
from portkit.runloop import COMMON_MODES, RunLoop, Timer
from portkit.workers.launcher import Launcher
from portkit.workers.restart import Restart
from portkit.workers.worker import Worker


class Restarting:
    """Timers of one group, on its loop.

    Args:
        policy: whether and when; None for never.
        relaunch: called with a worker whose pause is over.
        overdue: called with a worker that was started again and did not check in in time.
    """

    __slots__ = ("_overdue", "_policy", "_relaunch", "_timers")

    def __init__(
        self,
        policy: Restart | None,
        relaunch: Callable[[Worker], object],
        overdue: Callable[[Worker], object],
    ) -> None:
        self._policy = policy
        self._relaunch = relaunch
        self._overdue = overdue
        self._timers: dict[Worker, Timer] = {}

    def plan(self, worker: Worker) -> None:
        """The worker was lost: have it started again, if that is the policy."""
        worker.is_restarting = False
        if self._policy is None:
            return
        pause = self._policy.pause(worker._restart_times, clock.now())
        if pause is not None:
            worker.is_restarting = True
            self._call_later(worker, pause, self._relaunch)

    def started(self, worker: Worker, check_in_timeout: float | None) -> None:
        """It is to check in within so many seconds."""
        worker._restart_times.append(clock.now())
        if check_in_timeout is not None:
            self._call_later(worker, check_in_timeout, self._overdue)

    def done(self, worker: Worker) -> None:
        """It has checked in, or is to be left alone."""
        worker.is_restarting = False
        timer = self._timers.pop(worker, None)
        if timer is not None:
            timer.invalidate()

    def cancel(self) -> None:
        """Start none again."""
        for worker in list(self._timers):
            self.done(worker)

    def _call_later(self, worker: Worker, seconds: float, call: Callable[[Worker], object]) -> None:
        earlier = self._timers.get(worker)
        if earlier is not None:
            earlier.invalidate()

        def fire(_: Timer) -> None:
            self._timers.pop(worker, None)
            call(worker)

        timer = self._timers[worker] = Timer(seconds, fire)
        RunLoop.current().add_timer(timer, COMMON_MODES)


def end_overdue(worker: Worker, launcher: Launcher, timeout: float | None) -> None:
    """It was started again, and did not check in within ``timeout`` seconds."""
    if worker.has_checked_in or worker._ended:
        return
    missed = f"did not check in within {timeout} s"
    if launcher.can_kill:
        launcher.signal(worker, Signals.SIGKILL, f"it {missed}")
    else:
        error = CheckInTimeoutError(f"{worker.name} {missed}")
        report("a worker that was started again is late", error, worker)
