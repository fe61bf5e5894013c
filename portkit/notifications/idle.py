"""When a run loop has nothing else to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from portkit import clock
from portkit.runloop.activation import POLL_ONCE
from portkit.runloop.constants import Activity
from portkit.runloop.observer import Observer

if TYPE_CHECKING:
    from portkit.errors import LoopEndedError
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode

_LAST = 0x7FFFFFFF
"""After all other observers: what they do may keep the loop from being idle."""


class IdleWatcher(Observer):
    """Calls back when a pass found nothing ready. What waits for that keeps a mode alive.

    Args:
        on_idle: called on the loop's thread, whenever that is so.
        on_end: called when the loop ends.
        loop: the loop of this thread.
        modes: the modes to watch.
    """

    __slots__ = ("_on_end", "_on_idle")

    kind = "set of notifications to be posted when idle"
    keeps_mode_alive = True

    def __init__(
        self,
        on_idle: Callable[[], None],
        on_end: Callable[[LoopEndedError], None],
        loop: RunLoop,
        modes: Iterable[str],
    ) -> None:
        super().__init__(self._look, Activity.BEFORE_WAITING | Activity.EXIT, order=_LAST)
        self._on_idle = on_idle
        self._on_end = on_end
        for mode in modes:
            loop.add_observer(self, mode)

    def _look(self, observer: Observer, activity: Activity) -> None:
        for loop in self._loops:
            activation = loop._activation
            assert activation is not None, "a loop that tells its observers runs"
            # A pass that only polls does not tell that it is going to wait: it ends.
            if activity is Activity.EXIT and activation.deadline != POLL_ONCE:
                return
            if _is_idle(loop, activation.mode):
                self._on_idle()

    def _loop_ended(self, loop: RunLoop) -> None:
        super()._loop_ended(loop)
        self._on_end(loop._ended_error())


def _is_idle(loop: RunLoop, mode: Mode) -> bool:
    """Whether the loop would sleep now. Looks at descriptors without taking anything."""
    if loop._woken or mode.ready or mode.timers.wake_date <= clock.now():
        return False
    poller = mode.poller
    # A ring of the waiter alone says nothing: what rings is recorded above.
    return poller is None or all(fd == loop._waiter.read_fd for fd, _ in poller.poll(0.0))
