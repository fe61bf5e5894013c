"""Iterators between the two sides: the one that iterates asks for items, a few at a time.

So the other never runs ahead: the items that are on their way are those that were asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from portkit._report import report
from portkit.errors import InvalidPayloadError, MessageTooLargeError, PortError, SendTimeoutError
from portkit.remote import failure
from portkit.remote.awaiting import answer_later, await_later
from portkit.remote.exchange import Coming, Leaving
from portkit.remote.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from portkit.message import PortMessage
    from portkit.port import Port
    from portkit.remote.connection import Connection
    from portkit.remote.method import Result

_LARGE = 65_536
"""Bytes that an answer should not have many more of: so many items are asked for as fit."""
_LONGEST = 0.01
"""Seconds after which the items that are there go, be they fewer than were asked for."""


class StreamServer:
    """Gives the items of an iterator to the other side: the delegate of its port.

    Args:
        connection: by which it is reached.
        iterable: what to iterate over.
        items: how lists of them are written.

    Attributes:
        end: ends its port.
    """

    def __init__(self, connection: Connection, iterable: Any, items: Result) -> None:
        self._connection = connection
        self._items = items
        self._is_async = isinstance(iterable, AsyncIterable)
        self._iterator: Any = aiter(iterable) if self._is_async else iter(iterable)
        self._kept: list[Any] = []
        self._failure: Exception | None = None
        self._running = False
        self._closed = False
        self.end: Callable[[], None] | None = None

    def __call__(self, message: PortMessage) -> Any:
        """Answer with the next items."""
        try:
            most = self._wanted(message)
        except InvalidPayloadError as error:
            self._connection.refuse(message, error)
            return None
        if self._is_async:
            answer_later(self._connection.loop, message, self._give_async(message, most))
            return None
        self._running = True
        try:
            found, ended = self._take(most)
        finally:
            self._running = False
        self._answer(message, found, ended=ended)
        if self._closed:  # meanwhile, and it could not be done then
            self.close()
        return None

    def _take(self, most: int) -> tuple[list[Any], bool]:
        found, self._kept = self._kept[:most], self._kept[most:]
        until = monotonic() + _LONGEST
        while self._failure is None and len(found) < most:
            try:
                found.append(next(self._iterator))
            except StopIteration:
                return found, True
            except Exception as error:
                self._failure = error
            if monotonic() > until:
                break
        return found, self._failure is not None

    async def _give_async(self, message: PortMessage, most: int) -> None:
        self._running = True
        try:
            found, ended = await self._take_async(most)
        finally:
            self._running = False
            if self._closed:
                self.close()
        self._answer(message, found, ended=ended)

    async def _take_async(self, most: int) -> tuple[list[Any], bool]:
        found, self._kept = self._kept[:most], self._kept[most:]
        until = monotonic() + _LONGEST
        while self._failure is None and len(found) < most:
            try:
                found.append(await anext(self._iterator))
            except StopAsyncIteration:
                return found, True
            except Exception as error:
                self._failure = error
            if monotonic() > until:
                break
        return found, self._failure is not None

    def _wanted(self, message: PortMessage) -> int:
        digits = message.data or b""
        if message.msgid != Kind.NEXT or not message.is_request:
            raise InvalidPayloadError(
                f"an iterator gives its next items, and nothing for {message!r}"
            )
        if self._running:
            raise InvalidPayloadError("the iterator is being asked for its next items already")
        if not digits.isdigit() or len(digits) > 4 or not int(digits):
            raise InvalidPayloadError("an iterator is asked for a number of items")
        return min(int(digits), self._connection.options.max_items)

    def _answer(self, message: PortMessage, found: list[Any], *, ended: bool) -> None:
        error = self._failure
        if found or error is None:  # an error comes after the items before it
            last = ended and error is None
            try:
                leaving = Leaving(self._connection)
                answer = (self._items.encode(found, leaving), *leaving)
                message.reply(answer, msgid=Kind.END if last else Kind.RESULT)
            except PortError as wrong:
                if isinstance(wrong, MessageTooLargeError) and len(found) > 1:
                    half = len(found) // 2
                    self._kept = found[half:] + self._kept
                    self._answer(message, found[:half], ended=False)
                    return
                error = wrong
                report("the items of an iterator cannot be sent", error, self._iterator)
            else:
                if last:
                    self.close()
                return
        self._connection.counts.failed += 1
        with_traceback = self._connection.options.tracebacks
        message.reply(failure.of(error, with_traceback=with_traceback), msgid=Kind.FAILURE)
        self.close()

    def close(self) -> None:
        """Nobody asks for more."""
        self._closed = True
        if self._running:
            return
        self._kept = []
        iterator, self._iterator = self._iterator, iter(())
        end, self.end = self.end, None
        if end is not None:
            end()
        if inspect.isgenerator(iterator):
            try:
                iterator.close()
            except Exception as error:
                report("an iterator that nobody asks any more raised", error, iterator)
        elif inspect.isasyncgen(iterator):
            await_later(self._connection.loop, iterator.aclose)


class _Remote:
    """What the iterators on the asking side share."""

    def __init__(self, connection: Connection, port: Port, items: Result) -> None:
        self._connection = connection
        self._port: Port | None = port
        self._items = items
        self._found: list[Any] = []
        self._want = 1
        self._asking = _Once()

    def close(self) -> None:
        """Ask for no more: the other side lets go of its iterator. Idempotent; any thread."""
        self._port = None
        self._found = []

    def _give_up(self, error: BaseException) -> None:
        """What was asked for may come later, and would be missing: so it is the end."""
        if not isinstance(error, SendTimeoutError):
            self.close()

    def _take(self, reply: PortMessage) -> None:
        if self._port is None:
            return  # closed meanwhile
        port, self._port = self._port, None  # should there be an error, it is the end
        if reply.msgid == Kind.FAILURE:
            raise failure.to_raise(reply.data)
        data = reply.view
        if reply.msgid not in {Kind.RESULT, Kind.END} or data is None:
            raise InvalidPayloadError(f"{reply!r} has no items")
        coming = Coming.by(self._connection, reply.components)
        found: list[Any] = self._items.decode(data, coming)[::-1]
        if reply.msgid == Kind.RESULT and not found:
            raise InvalidPayloadError("the other side has neither a next item nor an end")
        size = sum([len(part) for part in coming if isinstance(part, bytes | memoryview)])
        fitting = max(1, self._want * _LARGE // max(1, size))
        self._want = min(self._want * 2, fitting, self._connection.options.max_items)
        self._found = found
        if reply.msgid == Kind.RESULT:
            self._port = port


class RemoteIterator(_Remote, Iterator[Any]):
    """An iterator of the other side. One thread at a time may ask it."""

    def __next__(self) -> Any:
        with self._asking:
            while not self._found:
                port = self._port
                if port is None:
                    raise StopIteration
                try:
                    reply = self._connection.ask(port, b"%d" % self._want, Kind.NEXT)
                except BaseException as error:
                    self._give_up(error)
                    raise
                self._take(reply)
            return self._found.pop()


class RemoteAsyncIterator(_Remote, AsyncIterator[Any]):
    """An iterator of the other side, for ``async for``. One task at a time may ask it."""

    async def __anext__(self) -> Any:
        with self._asking:
            while not self._found:
                port = self._port
                if port is None:
                    raise StopAsyncIteration
                asking = self._connection.ask_async(port, b"%d" % self._want, Kind.NEXT)
                try:
                    reply = await asking
                except BaseException as error:
                    self._give_up(error)
                    raise
                self._take(reply)
            return self._found.pop()

    async def aclose(self) -> None:
        """As :meth:`close`, for :func:`contextlib.aclosing`."""
        self.close()


class _Once:
    """A ``with`` for one at a time; others are told so, at once."""

    def __init__(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ValueError("the iterator is being asked for its next item already")

    def __exit__(self, *error: object) -> None:
        self._lock.release()
