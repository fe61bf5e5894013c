"""A port as an item of a mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from portkit.runloop.item import Item

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


class Schedulable(Protocol):
    """What a run loop asks of a port."""

    @property
    def is_valid(self) -> bool:
        """Whether it can still be scheduled."""
        ...

    def schedule(self, loop: RunLoop, mode: str) -> None:
        """The port was added to a mode."""

    def unschedule(self, loop: RunLoop, mode: str) -> None:
        """The port was removed from a mode."""

    def invalidate(self) -> None:
        """End the port; its loop has ended."""

    def deliver(self) -> bool:
        """Take one message and run the delegate; False where there was none."""
        ...


class PortItem(Item):
    """Holds a port in its modes, and tells it of being scheduled.

    Attributes:
        port: the port.
        adding: how many threads are adding it to a mode right now, which keeps it known.
    """

    __slots__ = ("adding", "port")

    kind = "port"

    def __init__(self, port: Schedulable) -> None:
        super().__init__()
        self.port: Schedulable = port
        self.adding: int = 0

    def _claim(self, loop: RunLoop) -> None:
        if not self.port.is_valid:
            raise ValueError(f"{self.port!r} is invalid and can be added nowhere: make a new one")
        super()._claim(loop)

    def _call_schedule(self, loop: RunLoop, mode: Mode) -> None:
        self.port.schedule(loop, mode.name)

    def _call_cancel(self, loop: RunLoop, mode: Mode) -> None:
        self.port.unschedule(loop, mode.name)

    def _loop_ended(self, loop: RunLoop) -> None:
        self.port.invalidate()

    def __repr__(self) -> str:
        return repr(self.port)
