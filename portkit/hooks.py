"""Hooks: what observes the messages of a process, to trace, to count, or to record them.

A hook is called around each send and each call of a delegate, on the thread that does it. None
costs anything while none is installed: sending and delivering look at :data:`active`, and that is
all.

What a hook does itself is not observed: neither its own messages, nor, within this process, what
their receivers do with them. So a hook may send.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from contextvars import ContextVar
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from portkit import _fork
from portkit._report import report
from portkit.message import Contents, Envelope, Packed, PortMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from portkit.port import Port

__all__ = [
    "HEADERS_LIMIT",
    "Around",
    "Hook",
    "Kind",
    "Outgoing",
    "add_hook",
    "remove_hook",
    "size_of",
]

Around: TypeAlias = "AbstractContextManager[object] | None"
"""What a hook gives to be entered before, and left after; or None."""

HEADERS_LIMIT = 4096
"""Bytes of JSON that a message's headers may have, as the wire protocol says."""
_LONGEST_ESCAPE = 12
"""Characters of JSON that one character takes at most."""


class Kind(StrEnum):
    """What is sent: a message, a request whose sender waits for the answer, or such an answer."""

    SEND = "send"
    REQUEST = "request"
    ANSWER = "answer"


class Outgoing:
    """A message, or several in one call, on the way out.

    Attributes:
        port: where to.
        kind: what.
        msgid: the message's number; None for several with different ones.
        headers: text for it to carry, to be filled in by hooks until they are entered. The receiver
            reads it as ``message.headers``. One that is sent on has some already.
        answer: of a request, once it is there.
    """

    __slots__ = ("_packed", "answer", "headers", "kind", "msgid", "port")

    def __init__(self, port: Port, kind: Kind, msgid: int | None, packed: list[Packed]) -> None:
        self.port: Port = port
        self.kind: Kind = kind
        self.msgid: int | None = msgid
        self.answer: PortMessage | None = None
        self._packed = packed
        headers = _headers_of(packed[0]) if len(packed) == 1 else None
        self.headers: dict[str, str] = dict(headers or {})

    @property
    def count(self) -> int:
        """How many messages this is."""
        return len(self._packed)

    @property
    def size(self) -> int | None:
        """Bytes of data, of all together; None where a payload is not encoded yet."""
        sizes = [_size(packed) for packed in self._packed]
        return None if None in sizes else sum(cast("list[int]", sizes))

    def _packed_into(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """The envelopes, with what hooks made of their contents."""
        return [
            (msgid, packed, reply_port, None)
            for (msgid, _, reply_port, _), packed in zip(envelopes, self._packed, strict=True)
        ]

    def __repr__(self) -> str:
        return f"<{self.kind} msgid={self.msgid} to {self.port!r}>"


class Hook:
    """What observes messages. Subclass it, with any of these methods, and :func:`add_hook` it.

    They are called on the thread that sends or delivers, so they should be quick. What they raise
    is reported, to the run loop's exception handler or the log, and changes nothing else.
    """

    def sending(self, outgoing: Outgoing) -> Around:
        """Something is about to be sent.

        What this returns is entered right away, and left when the message was accepted; for a
        request, when its answer was there. If that fails, it is left with the exception.
        """
        return None

    def delivering(self, port: Port, message: PortMessage) -> Around:
        """A message is about to be given to the delegate of ``port``.

        What this returns is entered right away, and left when the delegate has returned and its
        answer was sent; with the exception where it raises. Keep neither: a request that is held
        cannot be dropped. A delegate that defers a request answers later, as is seen by
        :meth:`sending`.
        """
        return None

    def received(self, port: Port, message: PortMessage) -> None:
        """A message was taken by a call that returns it, such as ``port.receive()``."""


installed: tuple[Hook, ...] = ()
"""Those that are called, the first one outermost."""
active: bool = False
"""Whether there are any: on the hot path this is quicker to look at than an empty tuple."""
_lock = Lock()
_quiet: ContextVar[bool] = ContextVar("portkit_hooks_quiet")
"""Whether what is sent here is sent by a hook, or on its behalf."""


def add_hook(hook: Hook) -> None:
    """Have ``hook`` called from now on, within those that were added before. Any thread.

    One that was added already is not added again.

    Raises:
        TypeError: it is no Hook.
    """
    global active, installed
    if not isinstance(hook, Hook):
        raise TypeError(f"{hook!r} is no hook: subclass portkit.Hook")
    with _lock:
        if hook not in installed:
            installed = (*installed, hook)
            active = True


def remove_hook(hook: Hook) -> None:
    """Have ``hook`` called no more; nothing where it was not added. Any thread.

    What it is in the midst of is left as always.
    """
    global active, installed
    with _lock:
        installed = tuple([other for other in installed if other is not hook])
        active = bool(installed)


def size_of(message: PortMessage) -> int | None:
    """Bytes of data in a message; None for a payload that came by reference and is not encoded."""
    return _size(message._packed)


class _Unobserved(dict[str, str]):
    """The headers of a message that a hook sent, by which it is known within the process.

    Not beyond it: a peer that could say so of its messages would not be observed at all.
    """

    __slots__ = ()


class _Entered:
    """What hooks gave to be entered, while that lasts."""

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: list[tuple[Hook, AbstractContextManager[object]]] = []

    def enter(self, hook: Hook, call: Callable[..., Around], *args: Any) -> None:
        """Call the hook, and enter what it gives."""
        token = _quiet.set(True)
        try:
            around = call(*args)
            if around is not None:
                around.__enter__()
                self._entered.append((hook, around))
        except Exception as error:
            report("a hook raised", error, hook)
        except BaseException as struck:  # such as a signal handler's
            self.leave(type(struck), struck, struck.__traceback__)
            raise
        finally:
            _quiet.reset(token)

    def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave all of it, the last first, whatever happens meanwhile."""
        while self._entered:
            hook, around = self._entered.pop()
            token = _quiet.set(True)
            try:
                around.__exit__(kind, error, traceback)  # which decides nothing
            except Exception as other:
                if other is not error:
                    report("a hook raised", other, hook)
            except BaseException as struck:
                self.leave(type(struck), struck, struck.__traceback__)
                raise
            finally:
                _quiet.reset(token)


class Sending(_Entered):
    """Around a send, wherever portkit does one: send what is in the Outgoing that it gives.

    Args:
        port, kind, msgid: as of the Outgoing.
        packed: the contents of each message, which get the headers.
    """

    __slots__ = ("_outgoing",)

    def __init__(self, port: Port, kind: Kind, msgid: int | None, packed: list[Packed]) -> None:
        super().__init__()
        self._outgoing = Outgoing(port, kind, msgid, packed)

    def __enter__(self) -> Outgoing:
        outgoing = self._outgoing
        if _quiet.get(False):
            outgoing._packed[:] = [
                _with_headers(packed, _Unobserved(_headers_of(packed) or {}))
                for packed in outgoing._packed
            ]
            return outgoing
        headers = dict(outgoing.headers)
        for hook in installed:
            self.enter(hook, hook.sending, outgoing)
            if outgoing.headers != headers:
                headers = _checked(hook, outgoing, headers)
        if headers:
            outgoing._packed[:] = [
                _with_headers(packed, {**(_headers_of(packed) or {}), **headers})
                for packed in outgoing._packed
            ]
        return outgoing

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave(kind, error, traceback)


def kind_of(port: Port) -> Kind:
    """What is sent by a message to that port."""
    return Kind.ANSWER if port._answers_once else Kind.SEND


def sending_many(port: Port, envelopes: Sequence[Envelope]) -> Sending:
    """Around a send of several messages, of which there is one at least."""
    msgids = {envelope[0] for envelope in envelopes}
    msgid = msgids.pop() if len(msgids) == 1 else None
    return Sending(port, kind_of(port), msgid, [envelope[1] for envelope in envelopes])


class Delivering(_Entered):
    """Around a call of a delegate, or of an asynchronous handler, and in the context of it.

    Args:
        port: where the message was taken.
        message: the message.
    """

    __slots__ = ("_message", "_port", "_token")

    def __init__(self, port: Port, message: PortMessage) -> None:
        super().__init__()
        self._port = port
        self._message = message

    def __enter__(self) -> None:
        is_quiet = _is_unobserved(self._message)
        if not is_quiet:
            for hook in installed:
                self.enter(hook, hook.delivering, self._port, self._message)
        # To False as well: a hook that waits may have a run loop deliver what is not its own.
        self._token = _quiet.set(is_quiet) if _quiet.get(False) is not is_quiet else None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _quiet.reset(self._token)
        self.leave(kind, error, traceback)


def received(port: Port, message: PortMessage) -> None:
    """Tell hooks of a message that is taken by a call, wherever portkit has one."""
    if not _is_unobserved(message):
        entered = _Entered()
        for hook in installed:
            entered.enter(hook, hook.received, port, message)


def _is_unobserved(message: PortMessage) -> bool:
    packed = message._packed
    return type(packed) is not tuple and type(cast("Contents", packed).headers) is _Unobserved


def _headers_of(packed: Packed) -> Any:
    return None if type(packed) is tuple else cast("Contents", packed).headers


def _with_headers(packed: Packed, headers: dict[str, str]) -> Contents:
    if type(packed) is tuple:
        return Contents(packed, None, headers)
    contents = cast("Contents", packed)
    return Contents(contents._components, contents.body, headers)


def _checked(hook: Hook, outgoing: Outgoing, before: dict[str, str]) -> dict[str, str]:
    """The headers as ``hook`` left them; as they were before, where they cannot travel."""
    headers = outgoing.headers
    try:
        length = sum([len(key) + len(value) for key, value in headers.items()])
        if not all(type(text) is str for pair in headers.items() for text in pair):
            raise TypeError("headers are text: str to str")
        for pair in headers.items():
            "".join(pair).encode()  # or it has lone surrogates, which the receiver would refuse
        if (length + len(headers)) * _LONGEST_ESCAPE > HEADERS_LIMIT:
            length = len(json.dumps(headers).encode())
            if length > HEADERS_LIMIT:
                raise ValueError(f"{length} bytes of headers are over the limit of {HEADERS_LIMIT}")
    except Exception as error:
        report("the headers that a hook gave are left out", error, hook)
        outgoing.headers = dict(before)
    return dict(outgoing.headers)


def _size(packed: Packed) -> int | None:
    components = packed if type(packed) is tuple else cast("Contents", packed)._components
    if components is None:
        return None
    return sum(
        [
            len(component) if isinstance(component, bytes) else component.nbytes
            for component in components
            if isinstance(component, bytes | memoryview)
        ]
    )


def _after_fork_in_child() -> None:
    global _lock
    _lock = Lock()  # a thread that is not in the child may have held it


_fork.call_in_child(_after_fork_in_child)
