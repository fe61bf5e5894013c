"""What answers tell of the messages that were sent before their requests."""

from __future__ import annotations

from collections import deque

from portkit._answer import Answer
from portkit.port import ReplyPort

_FEW = 16
"""Unanswered requests that are not looked through."""


class Requests:
    """Requests by one connection: an answer tells that what was sent before was taken, too."""

    __slots__ = ("_answered", "_most", "_open")

    def __init__(self) -> None:
        self._open: deque[tuple[Answer, int]] = deque()
        self._answered = 0
        self._most = _FEW

    def note(self, reply_port: ReplyPort, position: int) -> None:
        """One was sent; ``position`` is its number, or less."""
        answer = reply_port._answer
        if isinstance(answer, Answer):  # of the others it is not known here
            self._open.append((answer, position))
            # The first may wait for ever, while others are answered.
            if self._open[0][0].done or len(self._open) > self._most:
                self.last_answered()
                self._most = 2 * len(self._open) + _FEW

    def last_answered(self) -> int:
        """The position of the last one that was answered; 0 if none was. Any thread."""
        for _ in range(len(self._open)):
            try:
                answer, position = self._open.popleft()
            except IndexError:  # other threads do the same
                break
            if not answer.done:
                self._open.append((answer, position))
            elif isinstance(answer.outcome, tuple):
                self._answered = max(self._answered, position)
        return self._answered
