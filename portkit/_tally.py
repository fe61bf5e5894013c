"""What happened how often in this process, for :func:`portkit.stats`: only what happens seldom."""

from __future__ import annotations

from collections import deque
from itertools import islice, repeat
from operator import length_hint

from portkit import _fork

_MOST = 1 << 62


class Tally:
    """A count that any thread, signal handler or finalizer may raise: no lock, and none is lost.

    Taking from an iterator is one step, unlike adding to a number; what is left in it says how
    often that was done.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._reset()
        _fork.call_in_child(self._reset)

    def _reset(self) -> None:
        self._left = repeat(None, _MOST)

    def add(self, count: int = 1) -> None:
        """It happened once more, or so often."""
        deque(islice(self._left, count), maxlen=0)

    @property
    def value(self) -> int:
        """How often it happened."""
        return _MOST - length_hint(self._left)


errors_reported = Tally()
messages_destroyed = Tally()
payloads_refused = Tally()
requests_dropped = Tally()
requests_given_up = Tally()
links_opened = Tally()
links_closed = Tally()
links_refused = Tally()
