"""A mode: a named set of items, and what of them is ready."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from portkit._wakeup import Waiter
from portkit.runloop.timer_queue import TimerQueue

if TYPE_CHECKING:
    from portkit.runloop.descriptor import DescriptorSource
    from portkit.runloop.guest import Bell
    from portkit.runloop.item import Item
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.observer import Observer
    from portkit.runloop.poller import Poller
    from portkit.runloop.port_item import Schedulable
    from portkit.runloop.pump import PumpSource
    from portkit.runloop.source import InputSource


class ReadySlot:
    """A port's place in the ready queue of one mode.

    Attributes:
        port: None once it has left the mode, which may never run again and see the slot.
        queued: the slot is in ``mode.ready``; kept so that it is there once.
        waiter: of the loop's thread, to be rung if it sleeps in this mode.
    """

    __slots__ = ("mode", "port", "queued", "waiter")

    def __init__(self, port: Schedulable, mode: Mode, waiter: Waiter) -> None:
        self.port: Schedulable | None = port
        self.mode: Mode = mode
        self.waiter: Waiter = waiter
        self.queued: bool = False


class Mode:
    """One mode of one loop.

    Attributes:
        name: its name.
        is_common: whether it is one of the common modes.
        items: everything in it, in the order of adding. Changed under the loop's lock.
        alive: how many of the items keep the mode from being empty.
        ready: slots of ports that have messages. Appended to by any thread.
        fired: signalled sources; a dict for its order and its atomic operations.
        timers: the timers by fire date. Changed under the loop's lock.
        observers: sorted (R36); replaced, never changed in place.
        observed: all activities that any of the observers wants.
        descriptors: the descriptor sources by descriptor.
        pumps: the pump sources by descriptor.
        guard: told when a wait in this mode ends, unless the mode ``is_guarded``: callbacks may
            follow, during which somebody else has to see to the pumps.
        rests: how many waits in this mode have ended.
        poller: watches the descriptors; there is none before the first one.
        bell: rung for a guest run of this mode, see :mod:`portkit.runloop.guest`.
    """

    __slots__ = (
        "alive",
        "bell",
        "descriptors",
        "fired",
        "guard",
        "is_common",
        "is_guarded",
        "items",
        "name",
        "observed",
        "observers",
        "poller",
        "pumps",
        "ready",
        "rests",
        "timers",
    )

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.is_common: bool = False
        self.items: dict[Item, None] = {}
        self.alive: int = 0
        self.ready: deque[ReadySlot] = deque()
        self.fired: dict[InputSource, None] = {}
        self.timers: TimerQueue = TimerQueue()
        self.observers: tuple[Observer, ...] = ()
        self.observed: int = 0
        self.descriptors: dict[int, DescriptorSource] = {}
        self.pumps: dict[int, PumpSource] = {}
        self.guard: Callable[[RunLoop, Mode], None] | None = None
        self.is_guarded: bool = False
        self.rests: int = 0
        self.poller: Poller | None = None
        self.bell: Bell | None = None

    @property
    def next_fire_date(self) -> float | None:
        """The first timer's fire date, or None where there are no timers (R52)."""
        date = self.timers.next_fire_date
        return None if date == math.inf else date

    def close(self) -> None:
        """Close what the mode itself owns."""
        if self.poller is not None:
            self.poller.close()
            self.poller = None
