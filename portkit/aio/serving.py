"""Delegates that may be asynchronous: each message has a task of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import anyio

from portkit import hooks
from portkit._arguments import check_limit
from portkit._report import report
from portkit.aio.event_loop import EventLoop, current_event_loop
from portkit.aio.receiving import receiving
from portkit.message import PortMessage
from portkit.port import Port, ReplyPort

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop


async def serve(port: Port, delegate: Any, *, limit: int = 64) -> None:
    """Handle the messages of a port, several at a time, until it is invalidated.

    The delegate is called with each message in a task of its own; what it returns, once that is
    awaited if need be, answers a request. If it raises, the requester gets ``ReplyDroppedError``,
    and the error is reported, as of any delegate. If the requester gives up, by a time-out, by
    cancelling or by its end, the task is cancelled.

    Where ``serve`` is cancelled, so are all tasks; their requests are dropped, and the port is left
    with what is unread. When the port is invalidated, those under way come to their end first.

    Args:
        port: a local one, that nobody else serves.
        delegate: a callable, ``async`` or not, a :class:`portkit.typed.Router`, or an object with
            ``handle_port_message(message)``.
        limit: messages that are handled at the same time; more stay in the port's queue. Tasks may
            overtake each other: 1 keeps the order.

    Raises:
        InvalidPortError: the port was invalid already (-3).
        PortError: another consumer serves the port, or it only sends.
        TypeError, ValueError: an argument is wrong.
    """
    call = getattr(delegate, "handle_port_message", delegate)
    if not callable(call):
        raise TypeError(
            f"{type(delegate).__name__} cannot be a delegate: it is not callable and has no "
            "handle_port_message(message)"
        )
    free = anyio.Semaphore(check_limit("limit", limit), fast_acquire=True)
    handle = partial(_handle, current_event_loop(), port, call, free)
    async with receiving(port) as messages, anyio.create_task_group() as tasks:
        while True:
            await free.acquire()
            try:
                message = await messages._next()
            except StopAsyncIteration:
                break
            tasks.start_soon(handle, message)
            del message  # the task's alone


async def _handle(
    event_loop: EventLoop,
    port: Port,
    call: Callable[[PortMessage], Any],
    free: anyio.Semaphore,
    message: PortMessage,
) -> None:
    try:
        with until_given_up(event_loop, message):
            right = message.send_port if isinstance(message.send_port, ReplyPort) else None
            if right is None or not right.is_abandoned:
                await _deliver(port, call, message, right)
                event_loop.flush_soon()
    finally:
        free.release()


def until_given_up(event_loop: EventLoop, message: PortMessage) -> anyio.CancelScope:
    """What is awaited within is cancelled if the requester gives up.

    Not a generator, as that leaves the exception it ends in a cycle with its traceback, and with
    what the frames there hold.
    """
    scope = anyio.CancelScope()
    right = message.send_port
    if isinstance(right, ReplyPort):
        right._watch(_Canceller(event_loop, scope))
    return scope


async def _deliver(
    port: Port, call: Callable[[PortMessage], Any], message: PortMessage, right: ReplyPort | None
) -> None:
    """As ``LocalPort.deliver``, with the result awaited."""
    try:
        if hooks.active:
            with hooks.Delivering(port, message):
                await _answer(call, message, right)
        else:
            await _answer(call, message, right)
    except Exception as error:
        message.drop()
        report("a port's delegate raised", error, port)
    except BaseException:  # such as being cancelled
        message.drop()
        raise


async def _answer(
    call: Callable[[PortMessage], Any], message: PortMessage, right: ReplyPort | None
) -> None:
    result = call(message)
    if isawaitable(result):
        result = await result
    if right is not None and (result is not None or not (right.used or right.deferred)):
        right.answer(result)


class _Canceller:
    """Cancels a task whose requester gave up; see :class:`portkit.port.AbandonHandler`."""

    __slots__ = ("_event_loop", "_scope")

    def __init__(self, event_loop: EventLoop, scope: anyio.CancelScope) -> None:
        self._event_loop = event_loop
        self._scope = scope

    def notify(self, port: Port) -> None:
        """The requester gave up, as any thread found out."""
        self._event_loop.call(self._scope.cancel)

    def perform(self, port: Port, otherwise: RunLoop | None) -> None:
        """The same, over a link."""
        self._event_loop.call(self._scope.cancel)
