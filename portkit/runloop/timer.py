"""Timers (R45-R56): phase kept, misses coalesced, never early."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from portkit import clock
from portkit._context import bound
from portkit.runloop.constants import DEFAULT_MODE
from portkit.runloop.item import Item

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode

_EXACT = 2.0**52
"""Up to here every whole number is a float, and so is the half between two."""


class Timer(Item):
    """Calls back at a date, or at dates an interval apart.

    A repeating timer keeps its phase: a date missed because the loop was busy, or not in the
    timer's mode, is made up for by one call, and the next date is the first of the original grid
    that lies in the future (R49). A timer belongs to one loop, in any number of its modes.

    Args:
        interval: seconds until the first call and, if it repeats, between calls. Negative counts
            as 0; an interval of 0 does not repeat (R45).
        callback: called with the timer, on the loop's thread.
        fire_date: the first date on :func:`portkit.clock.now`; by default ``interval`` from now.
        repeats: whether to go on after the first call.
        tolerance: seconds that a call may be late so that timers can share a wake-up; at most
            half the interval of a repeating timer (R53).

    Raises:
        TypeError: ``callback`` is not callable.
        ValueError: a number is NaN, or a repeating interval is infinite.
    """

    __slots__ = (
        "_callback",
        "_fire_date",
        "_firing",
        "_loop_modes",
        "_moved",
        "_tolerance",
        "interval",
        "repeats",
    )

    kind = "timer"

    def __init__(
        self,
        interval: float,
        callback: Callable[[Timer], object],
        *,
        fire_date: float | None = None,
        repeats: bool = False,
        tolerance: float = 0.0,
    ) -> None:
        super().__init__()
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__}")
        self.interval: float = max(0.0, _number("interval", interval))
        if repeats and self.interval == math.inf:
            raise ValueError("a repeating timer needs a finite interval")
        self.repeats: bool = repeats and self.interval > 0
        self._callback = bound(callback)
        if fire_date is None:
            self._fire_date = clock.now() + self.interval
        else:
            self._fire_date = _number("fire_date", fire_date)
        self._loop_modes: tuple[Mode, ...] = ()
        self._firing = False
        self._moved = False
        self._tolerance = 0.0
        self.tolerance = tolerance

    @classmethod
    def scheduled(
        cls, interval: float, callback: Callable[[Timer], object], *, repeats: bool = False
    ) -> Self:
        """A new timer, added to the current run loop's default mode."""
        from portkit.runloop.loop import RunLoop  # noqa: PLC0415 - a loop knows its timers

        timer = cls(interval, callback, repeats=repeats)
        RunLoop.current().add_timer(timer, DEFAULT_MODE)
        return timer

    @property
    def tolerance(self) -> float:
        """Seconds that a call may be late. Takes effect with the next date."""
        return self._tolerance

    @tolerance.setter
    def tolerance(self, seconds: float) -> None:
        seconds = max(0.0, _number("tolerance", seconds))
        self._tolerance = min(seconds, self.interval / 2) if self.repeats else seconds

    @property
    def next_fire_date(self) -> float:
        """The date of the next call on :func:`portkit.clock.now`; 0.0 if invalid (R52).

        Any thread may set it; a date in the past means now, and the grid of a repeating timer
        starts anew from it (R50). Setting it on an invalid timer does nothing, nor does it from
        inside a one-shot timer's only call (R48).
        """
        return self._fire_date if self._valid else 0.0

    @next_fire_date.setter
    def next_fire_date(self, date: float) -> None:
        date = max(_number("next_fire_date", date), clock.now())
        loops = self._loops
        if not self._valid:
            return
        if not loops:
            self._set_fire_date(date)
        for loop in loops:
            loop._move_timer(self, date)

    @property
    def _hard_date(self) -> float:
        return self._fire_date + self._tolerance

    def fire(self) -> None:
        """Call back now, on this thread.

        A one-shot timer is invalid afterwards; the dates of a repeating one stay as they are.
        """
        if not self._valid:
            return
        try:
            self._callback(self)
        finally:
            if not self.repeats:
                self.invalidate()

    def _is_due(self, mode: Mode) -> bool:
        """Whether to fire now, in ``mode``: an earlier callback may have changed that (R47)."""
        return (
            self._valid
            and not self._firing
            and mode in self._loop_modes
            and self._fire_date <= clock.now()
        )

    def _fire_on(self, loop: RunLoop) -> None:
        """Call back because the date has come, and find the next one."""
        with loop._lock:
            self._firing, self._moved = True, False
            self._requeue()
        try:
            self._callback(self)
        finally:
            if not self.repeats:
                self.invalidate()
            with loop._lock:
                self._firing = False
                self._advance()
                self._requeue()

    def _set_fire_date(self, date: float) -> None:
        self._fire_date, self._moved = date, True

    def _requeue(self) -> tuple[Mode, ...]:
        """Put the timer where it belongs in its modes' queues. Under the loop's lock.

        While it fires that is out of them, so that a nested run neither calls it again nor wakes
        for it (R51).
        """
        for mode in self._loop_modes:
            if self._firing:
                mode.timers.discard(self)
            else:
                mode.timers.put(self)
        return self._loop_modes

    def _advance(self) -> None:
        """Move to the first date of the grid after now, unless the callback set a date."""
        if self._moved or not self.repeats:
            return
        now = clock.now()
        if self._fire_date <= now:
            periods = (now - self._fire_date) / self.interval
            if periods < _EXACT:
                date = self._fire_date + (math.floor(periods) + 1) * self.interval
            else:
                date = now  # from that far away rounding loses the grid
            # Rounding may leave the date on now, where it would fire a second time at once.
            if date <= now:
                date = max(date + self.interval, math.nextafter(now, math.inf))
            self._fire_date = date

    def _only_once(self) -> bool:
        return not self.repeats

    def _enter(self, loop: RunLoop, mode: Mode) -> None:
        self._loop_modes += (mode,)
        if not self._firing:
            mode.timers.put(self)
            loop._look_again(mode)

    def _leave(self, loop: RunLoop, mode: Mode) -> None:
        self._loop_modes = tuple([other for other in self._loop_modes if other is not mode])
        mode.timers.discard(self)

    def __repr__(self) -> str:
        state = "" if self._valid else " invalid"
        repeats = f" repeats every {self.interval} s" if self.repeats else ""
        return (
            f"<Timer {id(self):#x}{state} fires at {self._fire_date:.3f}{repeats}"
            f" tolerance={self._tolerance} {self._callback!r}>"
        )


def _number(what: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number of seconds, not {type(value).__name__}")
    if math.isnan(value):
        raise ValueError(f"{what} must be a number of seconds, not NaN")
    return float(value)
