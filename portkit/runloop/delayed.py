"""Calls asked for with ``RunLoop.call_later``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from portkit.runloop.timer import Timer

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop


def _call(timer: Timer) -> None:
    assert isinstance(timer, DelayedCall), "nothing else is made with this callback"
    timer.fn(*timer.args)


class DelayedCall(Timer):
    """A one-shot timer that its loop can find by what it calls."""

    __slots__ = ("_owner", "args", "fn")

    def __init__(
        self, owner: RunLoop, delay: float, fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        super().__init__(delay, _call)
        self._owner = owner
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        owner._delayed[self] = None

    def _invalidated(self) -> None:
        self._owner._delayed.pop(self, None)
