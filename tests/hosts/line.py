"""One direction of a cable, without I/O: what becomes of each frame, and when it arrives."""

from __future__ import annotations

import heapq
from random import Random
from typing import NamedTuple

LIMIT = 4000
"""Frames that may be under way at once; more are lost, as in a switch."""


class Impairment(NamedTuple):
    """What a direction of a cable does to frames; the words are those of ``tc netem``.

    Attributes:
        delay: seconds that a frame is under way.
        jitter: seconds by which that is more or less, by chance; frames overtake each other so.
        loss: the share of frames that are lost, from 0 to 1.
        reorder: the share of frames that have no delay, and so overtake those before them.
        rate: bytes per second, or None for no limit.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    rate: float | None = None

    def netem(self) -> list[str]:
        """The same as arguments of ``tc qdisc … netem``."""
        words = ["limit", str(LIMIT)]
        if self.delay or self.jitter:
            words += ["delay", f"{self.delay * 1e6:.0f}us", f"{self.jitter * 1e6:.0f}us"]
        if self.loss:
            words += ["loss", f"{self.loss * 100:g}%"]
        if self.reorder and self.delay:  # without a delay there is nobody to overtake
            words += ["reorder", f"{self.reorder * 100:g}%"]
        if self.rate is not None:
            words += ["rate", f"{self.rate * 8:.0f}bit"]
        return words


class Line:
    """A direction of a cable.

    Attributes:
        impairment: what happens to frames that are put in from now on.
        is_cut: whether all of them are lost.
        lost: how many frames were, so far.
    """

    def __init__(self, random: Random) -> None:
        self.impairment = Impairment()
        self.is_cut = False
        self.lost = 0
        self._random = random
        self._under_way: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._free_at = 0.0

    def put(self, frame: bytes, now: float) -> None:
        """Take a frame that was sent at ``now``."""
        delay, jitter, loss, reorder, rate = self.impairment
        if self.is_cut or len(self._under_way) >= LIMIT or self._happens(loss):
            self.lost += 1
            return
        arrival = now
        if rate is not None:
            arrival = self._free_at = max(now, self._free_at) + len(frame) / rate
        if not self._happens(reorder):
            arrival += max(0.0, delay + self._random.uniform(-jitter, jitter))
        self._count += 1  # frames of one moment stay in order
        heapq.heappush(self._under_way, (arrival, self._count, frame))

    def arrived(self, now: float) -> list[bytes]:
        """The frames that have arrived by ``now``, in the order of their arrival."""
        frames: list[bytes] = []
        while self._under_way and self._under_way[0][0] <= now:
            frames.append(heapq.heappop(self._under_way)[2])
        return frames

    def next_arrival(self) -> float | None:
        """When the next frame arrives, if one is under way."""
        return self._under_way[0][0] if self._under_way else None

    def cut(self) -> None:
        """Lose every frame, those under way too, until :meth:`mend`."""
        self.is_cut = True
        self.lost += len(self._under_way)
        self._under_way.clear()
        self._free_at = 0.0

    def mend(self) -> None:
        """Carry frames again."""
        self.is_cut = False

    def _happens(self, share: float) -> bool:
        return share > 0.0 and self._random.random() < share
