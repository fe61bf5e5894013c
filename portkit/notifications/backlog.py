"""What waits until an observer is told elsewhere than in the poster's call."""

from __future__ import annotations

from collections import deque
from threading import RLock

from portkit._report import report
from portkit.notifications.notification import Notification

LIMIT = 65536
"""Notifications that may wait for one observer, unless it says otherwise."""


def check_limit(limit: int) -> int:
    """The limit, if it can be one.

    Raises:
        TypeError: it is no int.
        ValueError: it is less than 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    return limit


class Backlog:
    """First in first out. What there is no room for is counted, and reported.

    Args:
        limit: how many may wait; posters that come at once may go over it by one each.
        owner: named in reports.

    Attributes:
        waiting: what waits.
        lost: how many there was no room for, in all.
    """

    __slots__ = ("_is_losing", "_lock", "_owner", "_reported", "limit", "lost", "waiting")

    def __init__(self, limit: int, owner: object) -> None:
        self.limit: int = check_limit(limit)
        self.waiting: deque[Notification] = deque()
        self.lost: int = 0
        self._owner = owner
        self._reported = 0
        self._is_losing = False
        self._lock = RLock()  # of a full backlog only; one that a finalizer can take again

    def put(self, notification: Notification) -> bool:
        """Append it; False where there is no room. Takes no lock where there is."""
        if len(self.waiting) >= self.limit:
            self._lose(notification)
            return False
        self.waiting.append(notification)
        return True

    def take(self) -> Notification | None:
        """The one that has waited longest, or None. For the one thread that tells the observer."""
        try:
            notification = self.waiting.popleft()
        except IndexError:
            return None
        if self._is_losing and not self.waiting:
            with self._lock:
                self._is_losing = False
                lost, self._reported = self.lost - self._reported, self.lost
            report(
                f"{lost} notifications were not delivered: more than {self.limit} waited for their "
                "observer, which has now caught up",
                None,
                self._owner,
            )
        return notification

    def give_up(self, why: str, error: BaseException | None) -> None:
        """Nobody will take what waits."""
        count = len(self.waiting)
        self.waiting.clear()
        if count:
            report(f"{count} notifications were never delivered: {why}", error, self._owner)

    def _lose(self, notification: Notification) -> None:
        with self._lock:
            self.lost += 1
            first, self._is_losing = not self._is_losing, True
        if first:
            report(
                f"the notification {notification.name!r} is not delivered, and others may not be: "
                f"{self.limit} wait for their observer, which is too slow (limit= sets how many)",
                None,
                self._owner,
            )
