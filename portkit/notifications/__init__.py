"""Notifications: what has happened, told to whoever observes it, where they want to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portkit.notifications.center import NotificationCenter
from portkit.notifications.notification import Notification, RemoteNotification
from portkit.notifications.observation import NotificationHandler, Observation
from portkit.notifications.port_endings import PORT_DID_BECOME_INVALID
from portkit.notifications.queue import Coalescing, NotificationQueue, PostingStyle

if TYPE_CHECKING:
    from portkit.notifications.forwarding import Forwarding, forward
    from portkit.notifications.receiver import NotificationReceiver

__all__ = [
    "PORT_DID_BECOME_INVALID",
    "Coalescing",
    "Forwarding",
    "Notification",
    "NotificationCenter",
    "NotificationHandler",
    "NotificationQueue",
    "NotificationReceiver",
    "Observation",
    "PostingStyle",
    "RemoteNotification",
    "forward",
]

_LATE = {"Forwarding": "forwarding", "NotificationReceiver": "receiver", "forward": "forwarding"}
"""What needs pydantic, which takes longer to import than all the rest."""


def __getattr__(name: str) -> Any:
    """Load what is late when it is first asked for."""
    if name not in _LATE:
        raise AttributeError(f"module 'portkit.notifications' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - for what is late only

    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
