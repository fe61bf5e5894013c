"""Reading links whose run loop is in a long callback, or does not run: noticed mode by mode.

A loop may read thousands of links: what each of its waits costs must not grow with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.link import service

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


def guard(loop: RunLoop, mode: Mode) -> None:
    """A wait of the loop has ended: have the service thread look in a moment."""
    service.look_after(_ModeGuard(loop, mode))


class _ModeGuard:
    """The links that a loop reads in one mode; see :class:`portkit.link.service.LookedAfter`."""

    __slots__ = ("_loop", "_mode")

    def __init__(self, loop: RunLoop, mode: Mode) -> None:
        self._loop = loop
        self._mode = mode

    @property
    def reads(self) -> int:
        """How often the loop has come by."""
        return self._mode.rests

    def look_after(self) -> None:
        """It was not for a moment: waiting, it reads; else others have to."""
        mode = self._mode
        mode.is_guarded = False  # first: a wait that ends from now on says so
        activation = self._loop._activation
        if self._loop._is_waiting and activation is not None and activation.mode is mode:
            return
        for pump in list(mode.pumps.values()):
            pump.neglected()
