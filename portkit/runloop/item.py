"""What can be put into a mode: the life that sources, timers, observers and ports share."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, ClassVar

from portkit import _fork

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode

_membership = RLock()
"""Guards which loops an item belongs to. Held for a few attribute accesses, never for a call."""


def _after_fork_in_child() -> None:
    global _membership
    _membership = RLock()  # a thread that is not in the child may have held it


_fork.call_in_child(_after_fork_in_child)


class Item:
    """The base of everything a mode holds.

    A subclass says what entering and leaving a mode means (under the loop's lock, so it calls
    nobody) and what is called out for it (without any lock).
    """

    __slots__ = ("__weakref__", "_loops", "_valid")

    kind: ClassVar[str] = "item"
    keeps_mode_alive: ClassVar[bool] = True
    """Whether a mode holding this is not empty; observers alone never are enough (R2)."""
    one_loop: ClassVar[bool] = True
    """Whether the item belongs to one loop at a time (R37, R46)."""

    def __init__(self) -> None:
        self._valid = True
        self._loops: tuple[RunLoop, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether the item may still be called. False for ever once False."""
        return self._valid

    def invalidate(self) -> None:
        """Take the item out of every loop and mode for good. Any thread; idempotent (R31, R55)."""
        with _membership:
            if not self._valid:
                return
            self._valid = False
            loops = self._loops
        self._invalidated()
        for loop in loops:
            loop._forget(self)

    def _claim(self, loop: RunLoop) -> None:
        """Make the item belong to ``loop``, or raise ValueError saying why it cannot."""
        with _membership:
            if not self._valid:
                raise ValueError(f"{self!r} is invalid and can be added nowhere: make a new one")
            if loop in self._loops:
                return
            if self.one_loop and self._loops:
                raise ValueError(
                    f"{self!r} belongs to another run loop, {self._loops[0]!r}: a {self.kind} "
                    "serves one loop; remove it there first"
                )
            self._loops += (loop,)

    def _unclaim(self, loop: RunLoop) -> None:
        with _membership:
            self._loops = tuple([other for other in self._loops if other is not loop])

    def _loop_ended(self, loop: RunLoop) -> None:
        """The loop's thread ends: leave it, with the cancel callouts (R57)."""
        loop._forget(self)

    # For subclasses.

    def _only_once(self) -> bool:
        """Whether its first call ends it: the loop may make that before the adding is over."""
        return False

    def _invalidated(self) -> None:
        """The item became invalid; it is still in its modes."""

    def _enter(self, loop: RunLoop, mode: Mode) -> None:
        """The item is now in ``mode``. Under the loop's lock."""

    def _leave(self, loop: RunLoop, mode: Mode) -> None:
        """The item is no longer in ``mode``. Under the loop's lock."""

    def _call_schedule(self, loop: RunLoop, mode: Mode) -> None:
        """Tell the owner of its being added, on the adding thread. What it raises goes there."""

    def _call_cancel(self, loop: RunLoop, mode: Mode) -> None:
        """Tell the owner of its being removed, on the removing thread."""
