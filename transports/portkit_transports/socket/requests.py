"""What answers tell of the messages that were sent before their requests."""

from __future__ import annotations

from collections import deque

from portkit._answer import Answer
from portkit.port import ReplyPort


class Requests:
    """Requests by one connection: an answer tells that what was sent before was taken, too."""

    __slots__ = ("_answered", "_open")

    def __init__(self) -> None:
        self._open: deque[tuple[Answer, int]] = deque()
        self._answered = 0

    def note(self, reply_port: ReplyPort, position: int) -> None:
        """One was sent; ``position`` is its number, or that of one sent at the same time."""
        answer = reply_port._answer
        if isinstance(answer, Answer):  # of the others it is not known here
            self._open.append((answer, position))
        if self._open and self._open[0][0].done:
            self.last_answered()

    def last_answered(self) -> int:
        """The position of the last one that was answered; 0 if none was."""
        while self._open and self._open[0][0].done:
            try:
                answer, position = self._open.popleft()
            except IndexError:  # another thread's
                break
            if isinstance(answer.outcome, tuple):
                self._answered = max(self._answered, position)
        return self._answered
