"""Notifications of other processes, posted here as they arrive at a port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from portkit.errors import InvalidPayloadError
from portkit.message import PortMessage
from portkit.notifications.center import NotificationCenter
from portkit.notifications.notification import RemoteNotification
from portkit.notifications.posted import MSGID, Posted, is_travelling, travelling
from portkit.typed.router import Router


class NotificationReceiver:
    """A delegate that posts what :func:`forward` sends to its port.

    It posts on the thread that serves the port. The notifications are
    :class:`RemoteNotification`, and their sender is this receiver: observe with ``sender=`` it what
    comes this way only. What is none, or is not to be posted by others, is refused: a request is
    answered by ``InvalidPayloadError``, anything else is logged and counted.

    For a port that gets other messages too, give it to the router there:
    ``router.on(msgid=receiver.msgid)(receiver.handle_port_message)``.

    Args:
        center: where to post; by default the default center.
        names: what others may post, by one name or several; None for all but
            ``PORT_DID_BECOME_INVALID``, which only portkit itself posts.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    msgid: ClassVar[int] = MSGID
    """The number of the messages."""

    def __init__(
        self,
        center: NotificationCenter | None = None,
        *,
        names: str | Iterable[str] | None = None,
    ) -> None:
        self._center = center or NotificationCenter.default()
        self._names = travelling(names)
        self._router = Router()
        self._router.on(Posted)(self._post)

    @property
    def invalid(self) -> int:
        """How many messages were refused."""
        return self._router.invalid

    def handle_port_message(self, message: PortMessage) -> Any:
        """Post what came, or refuse it. For ports and routers."""
        return self._router(message)

    def _post(self, arrived: Posted, message: PortMessage) -> None:
        if not is_travelling(arrived.name, self._names):
            error = InvalidPayloadError("name: this process lets nobody else post that")
            error.about = message
            raise error
        self._center.post(RemoteNotification(arrived.name, self, arrived.user_info, message.sender))
