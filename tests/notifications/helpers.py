"""What the tests of notifications share."""

from __future__ import annotations

from threading import Condition, get_ident

from portkit import Notification
from tests.support import PATIENCE


class Sender:
    """Somebody to whom things happen."""


class Observer:
    """Keeps what it is told, and on which thread."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        self.threads: set[int] = set()
        self._changed = Condition()

    def __call__(self, notification: Notification) -> None:
        """Keep the notification."""
        with self._changed:
            self.notifications.append(notification)
            self.threads.add(get_ident())
            self._changed.notify_all()

    def method(self, notification: Notification) -> None:
        """The same, as a method."""
        self(notification)

    @property
    def names(self) -> list[str]:
        """The names of what it was told."""
        return [notification.name for notification in self.notifications]

    def infos(self, key: str) -> list[object]:
        """What user_info has for a key, of each."""
        return [(notification.user_info or {}).get(key) for notification in self.notifications]

    def wait(self, count: int) -> bool:
        """Whether it was told of that many in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.notifications) >= count, PATIENCE)
