"""What is awaited on behalf of a connection, by the event loop of the thread that serves it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any

from portkit.errors import LoopEndedError, PortError
from portkit.message import PortMessage
from portkit.remote.export import REMOTE_MODE, Errand
from portkit.runloop.constants import COMMON_MODES
from portkit.runloop.loop import RunLoop


def answer_later(loop: RunLoop, message: PortMessage, answering: Coroutine[Any, Any, None]) -> None:
    """Have the event loop of the run loop's thread, which this is, see to the answer.

    Raises:
        PortError: there is none.
    """
    start = loop._task_starter
    if start is None:
        answering.close()
        raise PortError(
            "an async method or iterator is served by an event loop: make the connection "
            "within portkit.aio.hosting(), or on portkit.loops.new_event_loop()"
        )
    if message.is_request:
        message.defer()
    start(message, answering)


def await_later(loop: RunLoop, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have the event loop of the run loop's thread await what ``fn`` returns, if there is one."""

    def begin() -> None:
        start = loop._task_starter
        if start is not None:
            start(PortMessage(None), fn())

    if loop.ident == get_ident():
        begin()
        return
    try:
        loop._put(Errand(begin, (), (COMMON_MODES, REMOTE_MODE)), wake=True)
    except LoopEndedError:
        pass  # and so has the event loop
