"""Sources that bring messages in while the loop waits, and call nobody: how a link is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from portkit.runloop.item import Item

if TYPE_CHECKING:
    from portkit._wakeup import Waiter
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


class PumpSource(Item):
    """Has the loop call ``pump`` as part of its waiting, whenever the descriptor is ready.

    What ``pump`` does is no callback: it fills mailboxes, and the loop sleeps on if none of them
    is its own. It keeps no mode from being empty.

    Args:
        fd: an open descriptor, which stays the caller's.
        pump: called without arguments on the loop's thread; never raises an ``Exception``.
        interest: what to watch for, ``READ`` or ``WRITE`` of the poller, or 0 for now.
        guard: for the modes that the source is in; see :class:`~portkit.runloop.mode.Mode`.
        neglected: for who guards: the loop is in a long callback, or does not run.

    Attributes:
        lost: called when the loop's thread ends.
        modes: those that it is in.
    """

    __slots__ = ("_guard", "fd", "interest", "lost", "modes", "neglected", "pump")

    kind = "pump"
    keeps_mode_alive = False

    def __init__(
        self,
        fd: int,
        pump: Callable[[], None],
        *,
        interest: int,
        lost: Callable[[], None] = lambda: None,
        guard: Callable[[RunLoop, Mode], None] | None = None,
        neglected: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._guard = guard
        self.neglected: Callable[[], None] = neglected
        self.fd: int = fd
        self.pump: Callable[[], None] = pump
        self.interest: int = interest
        self.lost: Callable[[], None] = lost
        self.modes: tuple[Mode, ...] = ()

    def watch(self, interest: int) -> None:
        """Watch for something else, or with 0 for nothing; at once in a sleeping loop too."""
        if interest == self.interest:
            return
        self.interest = interest
        for loop in self._loops:
            with loop._lock:
                for mode in self.modes:
                    if mode.poller is not None and mode.pumps.get(self.fd) is self:
                        mode.poller.modify(self.fd, interest)

    def is_in(self, mode: Mode) -> bool:
        """Whether the source is in that mode."""
        return mode in self.modes

    def is_on(self, loop: RunLoop) -> bool:
        """Whether the source is in a mode of that loop."""
        return loop in self._loops

    def is_of(self, waiter: Waiter) -> bool:
        """Whether that is the waiter of its loop's thread."""
        return waiter in [loop._waiter for loop in self._loops]

    @property
    def is_awaited(self) -> bool:
        """Whether its loop waits now, in a mode that the source is in."""
        for loop in self._loops:
            activation = loop._activation
            if loop._is_waiting and activation is not None:
                return activation.mode in self.modes
        return False

    def _enter(self, loop: RunLoop, mode: Mode) -> None:
        poller = loop._poller(mode)
        if self.fd in mode.pumps:  # whose place this one takes
            poller.unregister(self.fd)
        try:
            poller.register(self.fd, self.interest)
        except FileExistsError:  # of one that a signal handler kept from entering, or leaving
            poller.unregister(self.fd)
            poller.register(self.fd, self.interest)
        mode.pumps[self.fd] = self
        if self._guard is not None:
            mode.guard = self._guard
        self.modes += (mode,)

    def _leave(self, loop: RunLoop, mode: Mode) -> None:
        self.modes = tuple([other for other in self.modes if other is not mode])
        if mode.pumps.get(self.fd) is not self:
            return
        del mode.pumps[self.fd]
        if mode.poller is not None:
            mode.poller.unregister(self.fd)

    def _loop_ended(self, loop: RunLoop) -> None:
        super()._loop_ended(loop)
        self.lost()

    def __repr__(self) -> str:
        return f"<PumpSource fd={self.fd} {self.pump!r}>"
