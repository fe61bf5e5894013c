"""Sending on: a right to a port that is not here, but somewhere this process can send to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from portkit._report import logger, report
from portkit.errors import BecameInvalidError, InvalidPortError, SendTimeoutError
from portkit.link.flow import cost
from portkit.message import Envelope, Packed
from portkit.port import ReplyPort

if TYPE_CHECKING:
    from portkit.link.remote_port import RemotePort

RELAY_WINDOW = 64
"""Messages by one right that may wait in this process for room further on."""


class Relay:
    """Sends on, in order, what comes by one right; room is granted again only for what has left.

    Args:
        port: where to.
        left: called with the contents of each message that has left.
    """

    __slots__ = ("_again", "_left", "_lock", "_port", "_queue")

    def __init__(self, port: RemotePort, left: Callable[[Packed], None]) -> None:
        self._port = port
        self._left = left
        self._queue: deque[Envelope] = deque()
        self._lock = Lock()
        self._again = False

    def put(self, envelope: Envelope) -> None:
        """Send on, or keep until there is room."""
        self._queue.append(envelope)
        self.forward()

    def forward(self) -> None:
        """Send on what there is room for. Any thread; called again when there is more room."""
        self._again = True
        # One thread at a time, so that the order stays; another only says that there is more.
        while self._again and self._lock.acquire(blocking=False):
            try:
                self._again = False
                self._send_on()
            finally:
                self._lock.release()

    def _send_on(self) -> None:
        while self._queue:
            envelope = self._queue[0]
            msgid, packed, reply_port, _ = envelope
            try:
                self._port._post((msgid, packed, reply_port, None), 0)
            except SendTimeoutError:
                if self._wait_for_room(cost(packed)):
                    return
                continue
            except InvalidPortError as error:
                if type(reply_port) is ReplyPort:
                    reply_port.fail(BecameInvalidError(str(error)))
                elif self._port.is_valid:  # else whoever sent it is told of the end
                    logger.warning("a message to %r may be lost: %s", self._port, str(error))
            except Exception as error:
                if type(reply_port) is ReplyPort:
                    reply_port._drop()
                report("a message could not be relayed", error, self._port)
            self._queue.popleft()
            self._left(packed)

    def _wait_for_room(self, size: int) -> bool:
        """Whether there will be room; False where there is some now, or the port has ended."""
        try:
            return self._port._reach().call_when_room(size, self.forward)
        except InvalidPortError:
            return False
