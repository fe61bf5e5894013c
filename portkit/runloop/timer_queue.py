"""The timers of one mode, by fire date: adding, moving and removing are O(log n).

A heap with lazy deletion. ``wake_date`` is the date by which a loop must be awake: the earliest
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

    __slots__ = ("_entries", "_heap", "_sequence", "wake_date")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._entries: dict[Timer, _Entry] = {}
        self._sequence = 0
        self.wake_date: float = math.inf

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_fire_date(self) -> float:
        """The earliest fire date; infinity without timers."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else math.inf

    def put(self, timer: Timer) -> None:
        """Add the timer, or move it to the fire date it has now."""
        self.discard(timer)
        self._sequence += 1
        entry = (timer._fire_date, self._sequence, timer)
        self._entries[timer] = entry
        heappush(self._heap, entry)
        self.wake_date = min(self.wake_date, timer._hard_date)

    def discard(self, timer: Timer) -> None:
        """Take the timer out, if it is in."""
        entry = self._entries.pop(timer, None)
        if entry is None:
            return
        if len(self._heap) > 2 * len(self._entries) + 16:
            self._heap = list(self._entries.values())
            heapify(self._heap)
        # The tolerance may have changed since, so any timer may be the one the date came from.
        self.wake_date = self._earliest_hard_date()

    def due(self, now: float) -> list[Timer]:
        """The timers whose fire date has come, in the order of fire dates, then of adding (R47)."""
        due: list[Timer] = []
        taken: list[_Entry] = []
        while True:
            self._drop_stale()
            if not self._heap or self._heap[0][0] > now:
                break
            entry = heappop(self._heap)
            taken.append(entry)
            due.append(entry[2])
        for entry in taken:
            heappush(self._heap, entry)
        return due

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and self._entries.get(heap[0][2]) is not heap[0]:
            heappop(heap)

    def _earliest_hard_date(self) -> float:
        """Search the heap from its root, only below entries that fire before the best so far."""
        self._drop_stale()
        heap = self._heap
        best = math.inf
        stack = [0]
        while stack:
            index = stack.pop()
            if index >= len(heap) or heap[index][0] >= best:
                continue
            entry = heap[index]
            if self._entries.get(entry[2]) is entry:
                best = min(best, entry[2]._hard_date)
            stack.append(2 * index + 1)
            stack.append(2 * index + 2)
        return best
