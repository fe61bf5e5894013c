"""Serving an object: the delegate of its port."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from portkit._report import report
from portkit._text import printable
from portkit.errors import InvalidPayloadError, PortError
from portkit.port import ReplyPort
from portkit.remote import failure
from portkit.remote.awaiting import answer_later
from portkit.remote.calling import Call, Serving, reset_current, set_current
from portkit.remote.exchange import Coming, Leaving
from portkit.remote.interface import Interface
from portkit.remote.messages import Kind

if TYPE_CHECKING:
    from portkit.message import Component, PortMessage
    from portkit.remote.connection import Connection
    from portkit.remote.method import Method
    from portkit.runloop.loop import RunLoop

_LONGEST_HEAD = 1024
"""Bytes that are looked at for a method's name."""
_PLAIN = frozenset({type(None), bool, bytes, dict, float, int, list, str, tuple})
"""What is not awaited, told quickly."""
_SMALL = 32_768
"""Bytes of an answer that any link takes."""
_MOST_DIGITS = 4
"""Digits of a depth that is looked at."""


class ObjectServer:
    """Calls the methods of an object that its interface has, and nothing else of it.

    Args:
        connection: by which it is reached.
        target: the object.
        interface: what of it can be called.
    """

    __slots__ = ("_connection", "interface", "loop", "target")

    def __init__(self, connection: Connection, target: object, interface: Interface) -> None:
        self._connection = connection
        self.loop: RunLoop = connection.loop
        self.target: object = target
        self.interface: Interface = interface

    def __call__(self, message: PortMessage) -> Any:
        """Serve one call; returns the answer."""
        connection = self._connection
        connection.counts.served += 1
        try:
            method, given, depth = self._read(message)
        except InvalidPayloadError as error:
            connection.refuse(message, error)
            return None
        serving = Serving(Call(connection, message.sender, depth))
        before = set_current(serving)
        awaited = False
        try:
            connection.check_depth(depth, method)
            result = method.call(self.target, given)
            if type(result) not in _PLAIN and inspect.isawaitable(result):
                self._answer_later(message, method, result, serving)
                awaited = True
                return None
            answer = self._answer(method, result)
            if len(answer) == 1 and len(answer[0]) < _SMALL:  # type: ignore[arg-type]
                return answer  # no limit keeps it from being sent
            if message.is_request:
                message.reply(answer)
            return None
        except Exception as error:
            self._fail(message, method, error)
            return None
        finally:
            reset_current(before)
            if not awaited:
                serving.call = None

    def _answer_later(
        self, message: PortMessage, method: Method, result: Awaitable[Any], serving: Serving
    ) -> None:
        under_way = self._connection.awaited
        answering = self._await(message, method, result, serving)
        try:
            if len(under_way) >= self._connection.options.max_awaited:
                raise PortError(
                    f"{len(under_way)} calls are awaited here, which is the limit: make fewer at a "
                    "time, or raise max_awaited="
                )
            under_way.add(serving)
            answer_later(self.loop, message, answering)
        except PortError:
            under_way.discard(serving)
            answering.close()
            if inspect.iscoroutine(result):
                result.close()
            raise

    async def _await(
        self, message: PortMessage, method: Method, result: Awaitable[Any], serving: Serving
    ) -> None:
        try:
            answer = self._answer(method, await result)
            if message.is_request:
                message.reply(answer)
        except Exception as error:
            self._fail(message, method, error)
        finally:
            # At once: it may be kept from being collected, as by the traceback of what ended it.
            self._connection.awaited.discard(serving)
            serving.call = None

    def _read(self, message: PortMessage) -> tuple[Method, dict[str, Any], int]:
        components = message.components
        data = components[0] if components else None
        if message.msgid != Kind.CALL or not isinstance(data, (bytes, memoryview)):
            raise InvalidPayloadError(f"a {self.interface.name} takes calls, not {message!r}")
        head, _, arguments = bytes(data).partition(b"\n")
        name, _, digits = head[:_LONGEST_HEAD].decode("utf-8", "replace").partition(" ")
        method = self.interface.methods.get(name)
        if method is None:
            raise InvalidPayloadError(
                f"{self.interface.name} has no method {printable(name[:64])!r} here; it has "
                f"{', '.join(self.interface.methods)}"
            )
        if not digits.isdecimal() or len(digits) > _MOST_DIGITS:
            raise InvalidPayloadError("a call says how deep it is nested")
        try:
            coming = Coming.by(self._connection, components)
            given = method.arguments.decode(arguments, coming)
        except InvalidPayloadError as error:
            raise InvalidPayloadError(f"{method.full_name}: {error}") from None
        return method, given, int(digits)

    def _answer(self, method: Method, result: Any) -> tuple[Component, ...]:
        leaving = Leaving(self._connection)
        try:
            return (method.result.encode(result, leaving), *leaving)
        except InvalidPayloadError as error:
            report(f"{method.full_name} returned what it does not say", error, self.target)
            raise TypeError(f"{method.full_name} returned something else: {error}") from error

    def _fail(self, message: PortMessage, method: Method, error: Exception) -> None:
        connection = self._connection
        connection.counts.failed += 1
        if not isinstance(message.send_port, ReplyPort):
            report(f"a one-way call of {method.full_name} raised", error, self.target)
            return
        data = failure.of(error, method.raises, with_traceback=connection.options.tracebacks)
        message.reply(data, msgid=Kind.FAILURE)
