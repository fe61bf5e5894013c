"""Calls asked for with ``RunLoop.call_later``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from portkit.runloop.timer import Timer

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


def _call(timer: Timer) -> None:
    assert isinstance(timer, DelayedCall), "nothing else is made with this callback"
    timer.fn(*timer.args)


class DelayedCall(Timer):
    """A one-shot timer that its loop can find by what it calls."""

    __slots__ = ("args", "fn")

    def __init__(self, delay: float, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__(delay, _call)
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args

    def _enter(self, loop: RunLoop, mode: Mode) -> None:
        super()._enter(loop, mode)
        loop._delayed[self] = None

    def _leave(self, loop: RunLoop, mode: Mode) -> None:
        super()._leave(loop, mode)
        if not self._loop_modes:
            loop._delayed.pop(self, None)
