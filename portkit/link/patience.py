"""How long the end of a process waits for its peers."""

from __future__ import annotations

from time import monotonic

_LEAST = 0.01
"""Seconds for a peer whose turn comes when patience is over: what it takes at once is written."""


class Patience:
    """Time that is given again whenever something was gained, but not without end.

    Args:
        stalled: seconds without any gain.
        longest: seconds in all.
    """

    __slots__ = ("_deadline", "_last", "_stalled")

    def __init__(self, stalled: float, longest: float) -> None:
        self._stalled = stalled
        self._last = monotonic() + longest
        self._deadline = monotonic() + stalled

    @property
    def left(self) -> float:
        """Seconds until it is over; never less than what costs nothing."""
        return max(_LEAST, min(self._deadline, self._last) - monotonic())

    @property
    def lasts(self) -> bool:
        """Whether it is not over."""
        return monotonic() < min(self._deadline, self._last)

    def renew(self) -> None:
        """Something was gained."""
        self._deadline = monotonic() + self._stalled
