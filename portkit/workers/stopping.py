"""Telling workers to end, and making those end that do not."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from signal import Signals

from portkit.errors import PortError
from portkit.runloop import RunLoop
from portkit.workers.check_in import STOP
from portkit.workers.ends import STOP_MODE
from portkit.workers.launcher import Launcher
from portkit.workers.until import Until
from portkit.workers.worker import Worker

_TO_DIE = 1.0
"""Seconds of a stop's time-out at most that are kept for signals to processes."""


def tell_to_stop(workers: Iterable[Worker], launcher: Launcher) -> None:
    """Have them end once what was sent to them before is handled."""
    for worker in workers:
        if worker._control is None:
            launcher.signal(worker, Signals.SIGTERM, "it was stopped before its check-in")
            continue
        try:
            worker._control.send(msgid=STOP, timeout=0)
        except PortError:
            pass  # it is ending by itself, or was told before


def await_ends(
    running: Collection[Worker], launcher: Launcher, loop: RunLoop, timeout: float | None
) -> None:
    """Run the loop until none is running, or the time is over; before that send signals."""
    ended = Until(lambda: not running)
    if not launcher.can_kill or timeout is None or timeout <= 0:
        loop._run_until(STOP_MODE, timeout, ended)
        return
    to_die = min(_TO_DIE, timeout / 2)
    why = f"it did not end within {timeout - to_die:g} s of being told to"
    loop._run_until(STOP_MODE, timeout - to_die, ended)
    for number in (Signals.SIGTERM, Signals.SIGKILL):
        for worker in list(running):
            launcher.signal(worker, number, why)
        loop._run_until(STOP_MODE, to_die / 2, ended)
