"""Messages as an asynchronous iterator: one is taken when the consumer asks for it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from portkit import hooks
from portkit.aio.event_loop import EventLoop, Waker, current_event_loop
from portkit.errors import BecameInvalidError, PortError, ReceiveTimeoutError
from portkit.local_port import LocalPort
from portkit.message import PortMessage, arrived
from portkit.port import Port

_IN_A_ROW = 64
"""Messages taken before other tasks have their turn, be there more or not."""


class Receiving:
    """The messages of a port; made by :func:`receiving`."""

    def __init__(self, port: Port) -> None:
        if not isinstance(port, LocalPort):
            raise PortError(f"{port!r} only sends and cannot receive: do this with its owner")
        self._port = port
        self._event_loop: EventLoop | None = None
        self._waker: Waker | None = None
        self._is_entered = False
        self._is_waiting = False
        self._taken = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PortMessage:
        """The next message.

        Raises:
            StopAsyncIteration: the port was invalidated.
            InvalidPortError: it was so before the first one.
            PortError: another consumer serves the port, or another task waits here.
        """
        message = await self._next()
        if hooks.active:
            hooks.received(self._port, message)
        return message

    async def _next(self) -> PortMessage:
        """As :meth:`__anext__`; hooks are not told: of a delivery they will be."""
        waker = self._waker or self._begin()
        if self._is_waiting:
            raise PortError("another task waits for this port's next message; it has one consumer")
        try:
            return await self._take(waker)
        except BaseException:  # cancelled: the loop is left, and its traceback may keep this alive
            if not self._is_entered:
                self.close()
            raise

    async def _take(self, waker: Waker) -> PortMessage:
        await self._checkpoint()
        mailbox = self._port._mailbox
        while True:
            try:
                envelope = mailbox.take(waker, 0.0)
            except ReceiveTimeoutError:
                await self._wait(waker)
            except BecameInvalidError:
                self.close()
                raise StopAsyncIteration from None
            else:
                waker.armed = None  # it is not waited for more
                if envelope[3] is not None:
                    envelope[3].taken(envelope[1])
                return arrived(envelope, self._port)

    async def _wait(self, waker: Waker) -> None:
        self._is_waiting = True
        try:
            await waker.wait()
        finally:
            self._is_waiting = False

    async def _checkpoint(self) -> None:
        assert self._event_loop is not None, "it has begun"
        self._event_loop.flush_soon()  # what the consumer did with the last one
        self._taken += 1
        if self._taken % _IN_A_ROW:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()

    def _begin(self) -> Waker:
        event_loop = current_event_loop()
        waker = Waker(event_loop)
        self._port._begin_receiving(waker.ring)
        self._event_loop, self._waker = event_loop, waker
        return waker

    def close(self) -> None:
        """Let go of the port: another consumer may serve it. What is unread stays there."""
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.armed = None
            self._port._end_receiving()

    async def __aenter__(self) -> Self:
        if self._waker is None:
            self._begin()
        self._is_entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_entered = False
        self.close()

    def __del__(self) -> None:
        # Left by break or an exception: in CPython that is where the loop ends. Takes no lock.
        if getattr(self, "_waker", None) is not None:
            self.close()


def receiving(port: Port) -> Receiving:
    """The messages of a port, to be gone through in a task.

    ``async for message in receiving(port)`` ends when the port is invalidated, and frees the port
    for other consumers when it is left; ``async with receiving(port) as messages`` frees it at the
    end of its block. A message is taken from the queue when it is asked for, so ``queue_limit``
    bounds what senders may leave there. A task that is cancelled while it waits loses none. One
    event loop, and one task at a time; others, run loops and threads are told that the port has a
    consumer.

    Args:
        port: a local one.

    Raises:
        PortError: the port only sends.
    """
    return Receiving(port)
