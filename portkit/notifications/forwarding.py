"""Notifications of this process, sent through a port to be posted in another."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Self

from portkit._arguments import check_kind, check_timeout
from portkit.errors import InvalidPayloadError, InvalidPortError
from portkit.notifications.center import NotificationCenter
from portkit.notifications.notification import Notification, RemoteNotification
from portkit.notifications.posted import is_travelling, posted, refusal, travelling
from portkit.port import Port
from portkit.runloop.loop import RunLoop

if TYPE_CHECKING:
    from types import TracebackType


class Forwarding:
    """What :func:`forward` returns: it lasts until it is removed, or its port has ended.

    As a context manager it is removed at the end of the block.
    """

    def __init__(
        self,
        port: Port,
        names: str | Iterable[str] | None,
        *,
        center: NotificationCenter | None,
        sender: object,
        loop: RunLoop | None,
        executor: Executor | None,
        timeout: float | None,
    ) -> None:
        """For :func:`forward`; not for users."""
        check_timeout(timeout)
        self._port = check_kind(port, Port)
        self._names = travelling(names)
        self._timeout = timeout
        only = next(iter(self._names)) if self._names and len(self._names) == 1 else None
        self._observation = (center or NotificationCenter.default()).add_observer(
            self._send, only, sender, loop=loop, executor=executor
        )
        try:
            port.add_invalidation_handler(self._port_ended)
        except BaseException:
            self._observation.remove()
            raise

    @property
    def is_valid(self) -> bool:
        """Whether notifications are still forwarded. False for ever once False."""
        return self._observation.is_valid and self._port.is_valid

    def remove(self) -> None:
        """Forward nothing more. Any thread; idempotent."""
        self._observation.remove()

    def _send(self, notification: Notification) -> None:
        if isinstance(notification, RemoteNotification):
            return  # from another process, which may have this one's forwarded to it
        if not is_travelling(notification.name, self._names):
            return
        payload = posted(notification)
        try:
            self._port.send(payload, timeout=self._timeout)
        except InvalidPayloadError as error:  # it is too long, say
            raise refusal(notification, error) from None
        except InvalidPortError:
            self.remove()

    def _port_ended(self, port: Port) -> None:
        self.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "" if self.is_valid else " removed"
        return f"<Forwarding{state} to {self._port!r}>"


def forward(
    port: Port,
    names: str | Iterable[str] | None = None,
    *,
    center: NotificationCenter | None = None,
    sender: object = None,
    loop: RunLoop | None = None,
    executor: Executor | None = None,
    timeout: float | None = 5.0,
) -> Forwarding:
    """Send what is posted here through a port, to be posted by a :class:`NotificationReceiver`.

    The name and user_info travel, as JSON; the sender does not. What cannot be sent is reported as
    an error of an observer: ``InvalidPayloadError`` where user_info is no plain JSON,
    ``SendTimeoutError`` where there was no room in time. What came from another process is not
    sent on, and ``PORT_DID_BECOME_INVALID`` never is. With the port this ends.

    Args:
        port: of any transport; the receiver, or a router with it, is the delegate there.
        names: which notifications, by one name or several; None for all.
        center: where they are posted; by default the default center.
        sender: only those of that sender.
        loop: the run loop to send on; by default each is sent in the poster's call.
        executor: the executor to send by, likewise.
        timeout: seconds to wait for room in the port's queue; 0 or less is one try.

    Returns:
        The forwarding: ``remove()`` it, or leave its ``with`` block. It need not be kept.

    Raises:
        TypeError, ValueError: an argument is wrong.
        LoopEndedError: the run loop has ended.
    """
    return Forwarding(
        port,
        names,
        center=center,
        sender=sender,
        loop=loop,
        executor=executor,
        timeout=timeout,
    )
