"""Iterators between the two sides: the one that iterates asks for items, a few at a time.

So the other never runs ahead: the items that are on their way are those that were asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from portkit.errors import InvalidPayloadError, ReceiveTimeoutError
from portkit.remote import failure
from portkit.remote.exchange import Coming, Leaving
from portkit.remote.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from portkit.message import PortMessage
    from portkit.port import Port
    from portkit.remote.connection import Connection
    from portkit.remote.method import Result

MOST_ITEMS = 64
"""Items that are asked for at a time."""
_LARGE = 32_768
"""Bytes of an answer from which on the next is not to have more items."""
_LONGEST = 0.01
"""Seconds after which the items that are there go, be they fewer than were asked for."""


class StreamServer:
    """Gives the items of an iterator to the other side: the delegate of its port.

    Args:
        connection: by which it is reached.
        iterable: what to iterate over.
        items: how lists of them are written.
    """

    def __init__(self, connection: Connection, iterable: Any, items: Result) -> None:
        self._connection = connection
        self._items = items
        self._is_async = isinstance(iterable, AsyncIterable)
        self._iterator: Any = aiter(iterable) if self._is_async else iter(iterable)
        self._failure: Exception | None = None
        self.end: Callable[[], None] | None = None

    def __call__(self, message: PortMessage) -> Any:
        """Answer with the next items."""
        try:
            most = self._wanted(message)
        except InvalidPayloadError as error:
            self._connection.refuse(message, error)
            return None
        if self._is_async:
            return self._connection.answer_later(message, self._give_async(message, most))
        found: list[Any] = []
        ended = self._failure is not None
        until = monotonic() + _LONGEST
        while not ended and len(found) < most:
            try:
                found.append(next(self._iterator))
            except StopIteration:
                ended = True
            except Exception as error:
                ended = True
                self._failure = error
            if monotonic() > until:
                break
        self._answer(message, found, ended=ended)
        return None

    async def _give_async(self, message: PortMessage, most: int) -> None:
        found: list[Any] = []
        ended = self._failure is not None
        until = monotonic() + _LONGEST
        while not ended and len(found) < most:
            try:
                found.append(await anext(self._iterator))
            except StopAsyncIteration:
                ended = True
            except Exception as error:
                ended = True
                self._failure = error
            if monotonic() > until:
                break
        self._answer(message, found, ended=ended)

    def _wanted(self, message: PortMessage) -> int:
        digits = message.data or b""
        if message.msgid != Kind.NEXT or not message.is_request:
            raise InvalidPayloadError(
                f"an iterator gives its next items, and nothing for {message!r}"
            )
        if not digits.isdigit() or len(digits) > 4 or not int(digits):
            raise InvalidPayloadError("an iterator is asked for a number of items")
        return min(int(digits), MOST_ITEMS)

    def _answer(self, message: PortMessage, found: list[Any], *, ended: bool) -> None:
        leaving = Leaving(self._connection)
        error = self._failure
        if (not found and error is None) or found:
            try:
                data = self._items.encode(found, leaving)
            except InvalidPayloadError as wrong:
                error, ended = wrong, True
            else:
                last = ended and self._failure is None
                message.reply((data, *leaving), msgid=Kind.END if last else Kind.RESULT)
                if last:
                    self.close()
                return
        assert error is not None, "there are items, an end or an error"
        with_traceback = self._connection.options.tracebacks
        message.reply(failure.of(error, with_traceback=with_traceback), msgid=Kind.FAILURE)
        self.close()

    def close(self) -> None:
        """Nobody asks for more."""
        iterator, self._iterator = self._iterator, iter(())
        end, self.end = self.end, None
        if end is not None:
            end()
        close = getattr(iterator, "close", None)
        if inspect.isgenerator(iterator) and close is not None:
            close()


class _Remote:
    """What the iterators on the asking side share."""

    def __init__(self, connection: Connection, port: Port, items: Result) -> None:
        self._connection = connection
        self._port: Port | None = port
        self._items = items
        self._found: list[Any] = []
        self._want = 1

    def close(self) -> None:
        """Ask for no more: the other side lets go of its iterator."""
        self._port = None
        self._found = []

    def _take(self, reply: PortMessage) -> None:
        if reply.msgid == Kind.FAILURE:
            self._port = None
            raise failure.to_raise(reply.data)
        data = reply.view
        if reply.msgid not in {Kind.RESULT, Kind.END} or data is None:
            raise InvalidPayloadError(f"{reply!r} has no items")
        if reply.msgid == Kind.END:
            self._port = None
        if len(data) < _LARGE:
            self._want = min(self._want * 2, MOST_ITEMS)
        coming = Coming.by(self._connection, reply.components)
        self._found = self._items.decode(data, coming)[::-1]


class RemoteIterator(_Remote, Iterator[Any]):
    """An iterator of the other side."""

    def __next__(self) -> Any:
        while not self._found:
            port = self._port
            if port is None:
                raise StopIteration
            try:
                self._take(self._connection.ask(port, b"%d" % self._want, Kind.NEXT))
            except ReceiveTimeoutError:
                self.close()  # what comes late is lost
                raise
        return self._found.pop()


class RemoteAsyncIterator(_Remote, AsyncIterator[Any]):
    """An iterator of the other side, for ``async for``."""

    async def __anext__(self) -> Any:
        while not self._found:
            port = self._port
            if port is None:
                raise StopAsyncIteration
            self._take(await self._connection.ask_async(port, b"%d" % self._want, Kind.NEXT))
        return self._found.pop()
