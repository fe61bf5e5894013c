"""Observers that are called on a run loop, whoever posts.

After "Delivering Notifications To Particular Threads" in Apple's Notification Programming Topics
(semantics 6.3). There a list is the truth, and what wakes the thread only a signal, which may fail;
here both are the loop's list of performed calls, which always has room. Other than there, what is
posted on the loop's own thread waits like the rest: so there is one order, for all observers of the
loop, and nothing is called behind a poster's back.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from portkit import _fork
from portkit.errors import LoopEndedError
from portkit.notifications.backlog import Backlog
from portkit.notifications.notification import Notification
from portkit.notifications.observation import NotificationHandler, Observation
from portkit.runloop.blocks import Block
from portkit.runloop.constants import COMMON_MODES
from portkit.runloop.item import Item

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop


class LoopObservation(Observation):
    """An observer that is called on a run loop. Telling it takes no lock."""

    __slots__ = ("_backlog", "_loop", "_modes", "_residents", "_waiting")

    def __init__(
        self,
        fn: NotificationHandler,
        name: str | None,
        sender: object,
        *,
        weak: bool,
        retire: Callable[[Observation], None],
        loop: RunLoop,
        modes: tuple[str, ...],
        limit: int,
    ) -> None:
        """For :class:`NotificationCenter`; not for users."""
        self._backlog = Backlog(limit, self)
        self._loop = loop
        self._modes = modes
        # A dict for its order and its atomic operations.
        self._waiting: dict[_Delivery, None] = {}
        self._residents = _residents_of(loop)
        super().__init__(fn, name, sender, weak=weak, retire=retire)
        self._residents.observations[self] = None
        if loop._ended:  # meanwhile, and perhaps before this was there to be told
            self._residents.observations.pop(self, None)
            raise loop._ended_error()

    @property
    def pending(self) -> int:
        """How many notifications wait until the loop gets to them."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """How many the observer was not told of, since too many waited. Each time is reported."""
        return self._backlog.lost

    def remove(self) -> None:
        """As :meth:`Observation.remove`."""
        super().remove()
        self._residents.observations.pop(self, None)
        while self._waiting:
            try:
                delivery, _ = self._waiting.popitem()
            except KeyError:  # the loop's thread took the last one
                return
            if delivery.claim():
                delivery.release()

    def _tell(self, notification: Notification) -> None:
        if self._valid and self._backlog.admits(notification, len(self._waiting)):
            delivery = _Delivery(self, notification, self._modes)
            self._waiting[delivery] = None
            try:
                self._loop._put(delivery, wake=True)
            except LoopEndedError:
                self.remove()

    def _deliver(self, delivery: _Delivery, notification: Notification) -> None:
        self._waiting.pop(delivery, None)
        if not self._waiting:
            self._backlog.emptied()
        self._call(notification)

    def _loop_ended(self, error: LoopEndedError) -> None:
        count = len(self._waiting)
        self._backlog.give_up(count, "the run loop of their observer has ended", error)
        self.remove()


class _Delivery(Block):
    """A notification on its way to an observer."""

    __slots__ = ()

    def __init__(
        self, observation: LoopObservation, notification: Notification, modes: tuple[str, ...]
    ) -> None:
        super().__init__(observation._deliver, (notification,), modes)

    def run(self) -> None:
        """Tell the observer, whose errors are reported."""
        self.fn(self, *self.args)

    def abandon(self, error: LoopEndedError) -> None:
        """The loop has ended: what waited is reported all at once."""


class _Residents(Item):
    """The observers of a run loop, which go with it. Observers alone keep no mode alive (R2)."""

    __slots__ = ("observations",)

    kind = "set of notification observers"
    keeps_mode_alive = False

    def __init__(self) -> None:
        super().__init__()
        self.observations: dict[LoopObservation, None] = {}

    def _loop_ended(self, loop: RunLoop) -> None:
        super()._loop_ended(loop)
        error = loop._ended_error()
        for observation in list(self.observations):
            observation._loop_ended(error)

    def __repr__(self) -> str:
        return f"<{len(self.observations)} notification observers>"


_lock = Lock()


def _residents_of(loop: RunLoop) -> _Residents:
    """The one of that loop.

    Raises:
        LoopEndedError: it has ended.
    """
    loop._check_alive()
    with _lock:
        for item in list(loop._table.common_items):
            if isinstance(item, _Residents):
                return item
        made = _Residents()
        loop._add(made, COMMON_MODES)
        return made


def _after_fork_in_child() -> None:
    global _lock
    _lock = Lock()


_fork.call_in_child(_after_fork_in_child)
