"""The timers of one mode, by date: adding, moving and removing are O(log n).

Two heaps with lazy deletion. ``wake_date`` is the date by which a loop must be awake: the earliest
hard date (fire date plus tolerance), so that timers whose tolerances overlap share a wake-up
(R53).
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from portkit.runloop.timer import Timer

_Entry: TypeAlias = "tuple[float, int, Timer]"


class TimerQueue:
    """Fire dates in order. Not thread-safe: the loop's lock guards it.

    Attributes:
        wake_date: when the loop must be awake; infinity without timers. Any thread may read it.
    """

    __slots__ = ("_by_fire_date", "_by_hard_date", "_live", "_sequence", "wake_date")

    def __init__(self) -> None:
        self._by_fire_date: list[_Entry] = []
        self._by_hard_date: list[_Entry] = []
        self._live: dict[Timer, int] = {}
        """Each timer's latest sequence number: its entries with another one are stale."""
        self._sequence = 0
        self.wake_date: float = math.inf

    def __len__(self) -> int:
        return len(self._live)

    @property
    def next_fire_date(self) -> float:
        """The earliest fire date; infinity without timers."""
        return self._first_date(self._by_fire_date)

    def put(self, timer: Timer) -> None:
        """Add the timer, or move it to the dates it has now."""
        self._sequence += 1
        self._live[timer] = self._sequence
        heappush(self._by_fire_date, (timer._fire_date, self._sequence, timer))
        heappush(self._by_hard_date, (timer._hard_date, self._sequence, timer))
        self._drop_stale()

    def discard(self, timer: Timer) -> None:
        """Take the timer out, if it is in."""
        if self._live.pop(timer, None) is not None:
            self._drop_stale()

    def due(self, now: float) -> list[Timer]:
        """The timers whose fire date has come, in the order of fire dates, then of adding (R47)."""
        taken: list[_Entry] = []
        while self._first_date(self._by_fire_date) <= now and self._by_fire_date:
            taken.append(heappop(self._by_fire_date))
        for entry in taken:
            heappush(self._by_fire_date, entry)
        return [entry[2] for entry in taken]

    def _drop_stale(self) -> None:
        """Drop the stale entries that come first, and all of them once they are the most."""
        for heap in (self._by_fire_date, self._by_hard_date):
            if len(heap) > 2 * len(self._live) + 16:
                heap[:] = [entry for entry in heap if self._live.get(entry[2]) == entry[1]]
                heapify(heap)
        self._first_date(self._by_fire_date)
        self.wake_date = self._first_date(self._by_hard_date)

    def _first_date(self, heap: list[_Entry]) -> float:
        while heap and self._live.get(heap[0][2]) != heap[0][1]:
            heappop(heap)
        return heap[0][0] if heap else math.inf
