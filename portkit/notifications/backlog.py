"""What waits until an observer is told elsewhere than in the poster's call."""

from __future__ import annotations

from threading import RLock

from portkit._arguments import check_limit
from portkit._report import report
from portkit.notifications.notification import Notification

LIMIT = 65536
"""Notifications that may wait for one observer, unless it says otherwise."""


class Backlog:
    """Says whether there is room for one more; what there is none for is counted, and reported.

    Args:
        limit: how many may wait; posters that come at once may go over it by one each.
        owner: named in reports.

    Attributes:
        lost: how many there was no room for, in all.
    """

    __slots__ = ("_is_losing", "_limit", "_lock", "_owner", "_reported", "lost")

    def __init__(self, limit: int, owner: object) -> None:
        self.lost: int = 0
        self._limit = check_limit("limit", limit)
        self._owner = owner
        self._reported = 0
        self._is_losing = False
        self._lock = RLock()  # of a full backlog only; one that a finalizer can take again

    def admits(self, notification: Notification, waiting: int) -> bool:
        """Whether it may wait beside so many others. Takes no lock where it may."""
        if waiting < self._limit:
            return True
        with self._lock:
            self.lost += 1
            first, self._is_losing = not self._is_losing, True
        if first:
            report(
                f"the notification {notification.name!r} is not delivered, and others may not be: "
                f"{waiting} wait for their observer, which is too slow (limit= sets how many)",
                None,
                self._owner,
            )
        return False

    def emptied(self) -> None:
        """Nothing waits any more."""
        if not self._is_losing:
            return
        with self._lock:
            self._is_losing = False
            lost, self._reported = self.lost - self._reported, self.lost
        report(
            f"{lost} notifications were not delivered: more than {self._limit} waited for their "
            "observer, which has now caught up",
            None,
            self._owner,
        )

    def give_up(self, waiting: int, why: str, error: BaseException | None) -> None:
        """Nobody will be told of what waits."""
        if waiting:
            report(f"{waiting} notifications were never delivered: {why}", error, self._owner)
