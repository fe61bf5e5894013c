"""Notifications: what has happened, told to whoever observes it, where they want to be told."""

from portkit.notifications.center import NotificationCenter
from portkit.notifications.notification import Notification, RemoteNotification
from portkit.notifications.observation import NotificationHandler, Observation
from portkit.notifications.port_endings import PORT_DID_BECOME_INVALID
from portkit.notifications.queue import Coalescing, NotificationQueue, PostingStyle

__all__ = [
    "PORT_DID_BECOME_INVALID",
    "Coalescing",
    "Notification",
    "NotificationCenter",
    "NotificationHandler",
    "NotificationQueue",
    "Observation",
    "PostingStyle",
    "RemoteNotification",
]
