"""Calling those who want to know what becomes of a port, where they want to be called."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING

from portkit import _thread
from portkit._context import bound
from portkit._report import report
from portkit.errors import LoopEndedError
from portkit.runloop.blocks import Block
from portkit.runloop.constants import COMMON_MODES

if TYPE_CHECKING:
    from portkit.port import Port
    from portkit.runloop.loop import RunLoop

announce_end: Callable[[Port, bool], None] | None = None
"""Called once with each port that has become invalid, after its handlers, and with whether that
happened in a call on this thread. :mod:`portkit.notifications` sets it when somebody observes that.
"""


class Handler:
    """A handler, and the run loop it belongs to.

    Args:
        call: called with the port.
        loop: where; by default the run loop of the thread that makes this, if it has one.

    Raises:
        TypeError: ``call`` is not callable.
    """

    __slots__ = ("_call", "_loop")

    def __init__(self, call: Callable[..., object], loop: RunLoop | None) -> None:
        if not callable(call):
            raise TypeError(f"a handler is called with the port; {call!r} cannot be called")
        self._call = bound(call)
        self._loop = loop or _thread.current().loop

    def notify(self, port: Port) -> None:
        """Call it here, or have its loop perform it; where that has ended nobody is to be told."""
        if self._loop is not None and self._loop.ident != get_ident():
            self.perform(port, self._loop)
            return
        try:
            self._call(port)
        except Exception as error:
            report("a port's handler raised", error, port)

    def perform(self, port: Port, otherwise: RunLoop | None, *more: object) -> None:
        """Have its loop call it, or the loop ``otherwise``: for a thread that runs no callbacks.

        ``more`` is what it is called with after the port.
        """
        loop = self._loop or otherwise
        if loop is None:
            return
        try:
            loop._put(_HandlerCall(self._call, (port, *more), (COMMON_MODES,)), wake=True)
        except LoopEndedError:
            pass


class _HandlerCall(Block):
    """A handler's call on its loop; if the loop ends before it, nobody is left to be told."""

    __slots__ = ()

    def abandon(self, error: LoopEndedError) -> None:
        """As where the loop had ended when the call was asked for: nothing."""
