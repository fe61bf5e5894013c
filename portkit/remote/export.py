"""What one side has and the other may call: each object, and each stream, with a port of its own.

The port is the capability: who was not handed it can name nothing, and every right to it is known
to the link it went over. An export ends once nobody holds its port, or with the connection.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Any

from portkit.errors import LoopEndedError
from portkit.link.local_right import LocalRight
from portkit.link.remote_port import RemotePort
from portkit.local_port import LocalPort
from portkit.port import Port
from portkit.runloop.constants import COMMON_MODES

if TYPE_CHECKING:
    from portkit.message import PortMessage
    from portkit.runloop.loop import RunLoop

REMOTE_MODE = "portkit.remote"
"""The mode in which a thread waits for the answer to a call: it serves callbacks meanwhile (D7)."""


class Export:
    """A port with what it stands for, served on a run loop.

    Args:
        serve: the delegate.
        loop: which serves it.
        modes: in which.
        ended: called once when it has ended, on any thread.
        queue_limit: of the port.
    """

    def __init__(
        self,
        serve: Callable[[PortMessage], Any],
        loop: RunLoop,
        modes: tuple[str, ...],
        ended: Callable[[], None],
        queue_limit: int,
    ) -> None:
        self.loop: RunLoop = loop
        self._ended = ended
        self._lock = RLock()
        self._right: Callable[[], LocalRight | None] = _nothing
        self.port: LocalPort = LocalPort(serve, queue_limit=queue_limit)
        try:
            for mode in modes:
                loop.add_port(self.port, mode)
            self.port.add_no_senders_handler(self._check_holders, loop=loop)
        except BaseException:
            self.port.invalidate()
            raise

    def handle(self) -> Port | None:
        """The port for somebody to hold; None where the export has just ended.

        Within the process, too, it is known when the last of them is gone.
        """
        with self._lock:
            if not self.port.is_valid:
                return None
            right = self._right()
            if right is None:
                right = LocalRight(self.port)
                self._right = weakref.ref(right, self._right_gone)
            return RemotePort(right)

    def end(self) -> None:
        """Nobody can call it any more."""
        self.port.invalidate()
        ended, self._ended = self._ended, _nothing
        ended()

    def _right_gone(self, right: object) -> None:
        try:  # a finalizer, on any thread
            self.loop.perform(self._check_holders, self.port, modes=(COMMON_MODES, REMOTE_MODE))
        except LoopEndedError:
            pass

    def _check_holders(self, port: Port) -> None:
        with self._lock:
            unheld = self._right() is None and not self.port._senders
            if unheld:
                self.port.invalidate()
        if unheld:
            self.end()


def _nothing() -> None:
    """What is called where nobody is to be told any more."""


def local_port(port: Port) -> LocalPort | None:
    """The port of this process that a component stands for, if it stands for one."""
    if isinstance(port, LocalPort):
        return port
    if isinstance(port, RemotePort):
        right = port._right
        if isinstance(right, LocalRight):
            return right.port
    return None
