"""What is posted: a name, who posts it, and what else there is to say."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from portkit.message import Sender


def check_name(name: object) -> str:
    """The name, if it can be one.

    Raises:
        TypeError: it is no str.
        ValueError: it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"a notification is named by a str, not {type(name).__name__}")
    if not name:
        raise ValueError("a notification's name must not be empty")
    return name


class Notification:
    """Something that has happened; nobody changes it any more (NSNotification).

    Args:
        name: what has happened.
        sender: to whom, or None; observers compare it by identity. The notification holds it.
        user_info: what else there is to say; copied, but not what it holds.

    Raises:
        TypeError: the name is no str, or ``user_info`` no mapping.
        ValueError: the name is empty.
    """

    __slots__ = ("__weakref__", "_name", "_sender", "_user_info")

    def __init__(
        self, name: str, sender: object = None, user_info: Mapping[str, Any] | None = None
    ) -> None:
        if type(name) is not str or not name:
            check_name(name)
        if user_info is not None:
            if not isinstance(user_info, Mapping):
                raise TypeError(f"user_info must be a mapping, not {type(user_info).__name__}")
            user_info = MappingProxyType(dict(user_info))
        self._name = name
        self._sender = sender
        self._user_info = user_info

    @property
    def name(self) -> str:
        """What has happened."""
        return self._name

    @property
    def sender(self) -> Any:
        """To whom it has happened, or None."""
        return self._sender

    @property
    def user_info(self) -> Mapping[str, Any] | None:
        """What else there is to say, read-only; None where there is nothing."""
        return self._user_info

    def __repr__(self) -> str:
        source = "" if self._sender is None else f" from a {type(self._sender).__name__}"
        return f"<{type(self).__name__} {self._name!r}{source}>"


class RemoteNotification(Notification):
    """One that was posted in another process and came through a port.

    Its ``sender`` stands in for the real one, which is of the other process: it is the
    :class:`NotificationReceiver` that posted it here.

    Args:
        name: as for :class:`Notification`.
        sender: the receiver.
        user_info: as for :class:`Notification`.
        peer: whose process it came from.
    """

    __slots__ = ("_peer",)

    def __init__(
        self,
        name: str,
        sender: object = None,
        user_info: Mapping[str, Any] | None = None,
        peer: Sender | None = None,
    ) -> None:
        super().__init__(name, sender, user_info)
        self._peer = peer

    @property
    def peer(self) -> Sender | None:
        """Whose process it came from, as far as the link proved it; None within the process."""
        return self._peer
