"""Observers: told of the points of each pass (R36-R41)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from portkit._context import bound
from portkit.runloop.constants import Activity
from portkit.runloop.item import Item

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


class Observer(Item):
    """Calls back at chosen points of every pass.

    An observer belongs to one loop, in any number of its modes, is never re-entered by a nested
    run, and does not by itself keep a mode from being empty.

    Args:
        callback: called as ``callback(observer, activity)`` on the loop's thread.
        activities: which points; any combination.
        repeats: False: called once, then invalidated (R39).
        order: observers of one activity are called in ascending order, equals as added.

    Raises:
        TypeError: ``callback`` is not callable.
    """

    __slots__ = ("_callback", "_firing", "_mask", "order", "repeats")

    kind = "observer"
    keeps_mode_alive = False

    def __init__(
        self,
        callback: Callable[[Observer, Activity], object],
        activities: Activity = Activity.ALL,
        *,
        repeats: bool = True,
        order: int = 0,
    ) -> None:
        super().__init__()
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__}")
        self._callback = bound(callback)
        self._mask = int(activities)
        self._firing = False
        self.repeats: bool = repeats
        self.order: int = order

    @property
    def activities(self) -> Activity:
        """Which points the observer is told of."""
        return Activity(self._mask)

    def _fire(self, activity: Activity) -> None:
        """Call back if the observer is still valid and not in its callback already."""
        if not self._valid or self._firing:
            return
        self._firing = True
        try:
            self._callback(self, activity)
        finally:
            self._firing = False
            if not self.repeats:
                self.invalidate()

    def _only_once(self) -> bool:
        return not self.repeats

    def _enter(self, loop: RunLoop, mode: Mode) -> None:
        _set_observers(mode, [*mode.observers, self])

    def _leave(self, loop: RunLoop, mode: Mode) -> None:
        _set_observers(mode, [other for other in mode.observers if other is not self])

    def __repr__(self) -> str:
        state = "" if self._valid else " invalid"
        return (
            f"<Observer {id(self):#x}{state} order={self.order} "
            f"activities={self._mask:#x} {self._callback!r}>"
        )


def _set_observers(mode: Mode, observers: list[Observer]) -> None:
    mode.observers = tuple(sorted(observers, key=lambda observer: observer.order))
    mask = 0
    for observer in observers:
        mask |= observer._mask
    mode.observed = mask
