"""The port of something that one side has and the other may call: an object, or an iterator.

The port is the capability: who was not handed it can name nothing, and every right to it is known
to the link it went over. It ends once nobody holds it, or with the connection.
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
from portkit.runloop.blocks import Block

if TYPE_CHECKING:
    from portkit.local_port import Exported
    from portkit.message import PortMessage
    from portkit.port import Port
    from portkit.runloop.loop import RunLoop

REMOTE_MODE = "portkit.remote"
"""The mode in which a thread waits for the answer to a call: it serves callbacks meanwhile (D7)."""


class Export(LocalPort):
    """A port with what it stands for, served on a run loop.

    Args:
        serve: the delegate.
        loop: which serves it.
        modes: in which.
        ended: called once, with the port, when that has ended, on any thread.
        queue_limit: of the port.
    """

    __slots__ = ("_ended", "_guard", "_is_over", "_modes", "_right", "_server_loop")

    def __init__(
        self,
        serve: Callable[[PortMessage], Any],
        loop: RunLoop,
        modes: tuple[str, ...],
        ended: Callable[[Export], None],
        queue_limit: int,
    ) -> None:
        self._ended: Callable[[Export], None] = ended
        self._guard = RLock()
        self._is_over = False
        self._right: Callable[[], LocalRight | None] = _nobody
        self._server_loop = loop
        self._modes = modes
        super().__init__(serve, queue_limit=queue_limit)
        try:
            for mode in modes:
                loop.add_port(self, mode)
        except BaseException:
            self.invalidate()
            raise

    def handle(self) -> RemotePort | None:
        """The port for somebody to hold; None where it has just ended.

        Within the process, too, it is known when the last of them is gone.
        """
        with self._guard:
            if self._is_over or not self.is_valid:
                return None
            right = self._right()
            if right is None:
                right = LocalRight(self)
                self._right = weakref.ref(right, self._unhandled)
            return RemotePort(right)

    def end_if_unheld(self) -> bool:
        """End it where nobody holds it; whether that is so."""
        with self._guard:
            if self._right() is not None or self._senders:
                return False
            self._is_over = True
        self.end_when_empty()
        return True

    def end_when_empty(self) -> None:
        """Nobody sends any more: end it once what was sent before has been delivered."""
        with self._guard:
            self._is_over = True
        if not self.pending or not self._perform(self.end_when_empty):
            self.invalidate()

    def _unhandled(self, right: object) -> None:
        """No handle of this process is left. A finalizer calls this, on any thread."""
        self._perform(self.end_if_unheld)

    def _drop_sender(self, sender: Exported, otherwise: RunLoop | None) -> None:
        super()._drop_sender(sender, otherwise)
        if not self._senders:
            self._perform(self.end_if_unheld)

    def _perform(self, fn: Callable[[], object]) -> bool:
        try:  # also while a call waits: a program may do nothing else
            self._server_loop._put(Errand(fn, (), self._modes), wake=True)
        except LoopEndedError:
            return False
        return True

    def _withdraw(self) -> None:
        super()._withdraw()
        ended, self._ended = self._ended, _nothing
        ended(self)


class Errand(Block):
    """A call that is needless once its loop has ended: all that was served there ends with that."""

    __slots__ = ()

    def abandon(self, error: LoopEndedError) -> None:
        """Nothing is lost."""


def _nobody() -> None:
    """The right of this process where it has none."""


def _nothing(export: Export) -> None:
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
