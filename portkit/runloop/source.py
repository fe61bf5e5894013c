"""Input sources that code signals by hand: CoreFoundation's version 0 (R28-R32)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from portkit._context import bound
from portkit.runloop import item
from portkit.runloop.item import Item

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode

SourceCallout: TypeAlias = "Callable[[InputSource, RunLoop, str], object]"
"""A schedule or cancel callout: called with the source, the loop and the mode."""


class InputSource(Item):
    """Work that any thread signals and the loop's thread performs.

    A source may be in many modes of many loops; a signal is performed once, by the first loop to
    get to it. Hand work over in a structure of your own, then :meth:`signal`.

    Args:
        perform: called with the source, on the loop's thread, once for any number of signals.
        schedule: called as ``schedule(source, loop, mode)`` for each mode that the source is
            added to, on the adding thread, before any perform there.
        cancel: called likewise for each mode that it is removed from, also by invalidation and
            at the end of the loop's thread.
        order: sources signalled together are performed in ascending order.

    Raises:
        TypeError: ``perform`` is not callable.
    """

    __slots__ = ("_cancel", "_modes", "_perform", "_schedule", "_signalled", "order")

    kind = "source"
    one_loop = False

    def __init__(
        self,
        perform: Callable[[InputSource], object],
        *,
        schedule: SourceCallout | None = None,
        cancel: SourceCallout | None = None,
        order: int = 0,
    ) -> None:
        super().__init__()
        if not callable(perform):
            raise TypeError(f"perform must be callable, not {type(perform).__name__}")
        self._perform = bound(perform)
        self._schedule = bound(schedule)
        self._cancel = bound(cancel)
        self._modes: tuple[tuple[RunLoop, Mode], ...] = ()
        self._signalled = False
        self.order: int = order

    @property
    def is_signalled(self) -> bool:
        """Whether a signal waits to be performed."""
        return self._signalled

    def signal(self, *, wake: bool = True) -> None:
        """Have the source performed in the next pass of a loop and mode that it is in.

        From any thread, a signal handler or a finalizer: takes no lock. Ignored on an invalid
        source (R28).

        Args:
            wake: also wake the loops that the source is in; otherwise that is the caller's task.
        """
        if not self._valid:
            return
        self._signalled = True
        for loop, mode in self._modes:
            mode.fired[self] = None
            if wake:
                loop.wake_up()

    def _take_signal(self) -> bool:
        """Clear the signal; whether there was one and the source may be performed (R29)."""
        if not self._signalled or not self._valid:
            return False
        self._signalled = False
        return True

    def _invalidated(self) -> None:
        self._signalled = False

    def _enter(self, loop: RunLoop, mode: Mode) -> None:
        with item._membership:  # loops have a lock each, and the source may be in several
            self._modes += ((loop, mode),)
        if self._signalled:
            mode.fired[self] = None

    def _leave(self, loop: RunLoop, mode: Mode) -> None:
        with item._membership:
            self._modes = tuple([place for place in self._modes if place[1] is not mode])
        mode.fired.pop(self, None)

    def _call_schedule(self, loop: RunLoop, mode: Mode) -> None:
        if self._schedule is not None:
            self._schedule(self, loop, mode.name)

    def _call_cancel(self, loop: RunLoop, mode: Mode) -> None:
        if self._cancel is not None:
            self._cancel(self, loop, mode.name)

    def __repr__(self) -> str:
        state = "signalled" if self._signalled else "valid" if self._valid else "invalid"
        return f"<InputSource {id(self):#x} {state} order={self.order} {self._perform!r}>"
