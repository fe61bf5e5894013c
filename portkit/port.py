"""The abstract port, and the send-once right that answers a request.

Sending is the same for every port; a subclass says how an envelope gets to the receive right
(:meth:`Port._post`). Receiving belongs to :class:`portkit.local_port.LocalPort`.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    NoReturn,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

from portkit import _fork, _tally, _thread, hooks
from portkit._answer import Answer, Outcome
from portkit._arguments import check_size, check_timeout
from portkit._handlers import Handler
from portkit.errors import InvalidPortError, PortError, ReplyDroppedError
from portkit.message import (
    MAX_MSGID,
    Body,
    ComponentObject,
    Components,
    Contents,
    Envelope,
    LentBytes,
    Packed,
    PortMessage,
    arrived,
    check_envelope,
    check_reply,
    msgid_of,
    pack,
)
from portkit.runloop.loop import RunLoop

if TYPE_CHECKING:
    from types import TracebackType

    from portkit.address import Address
    from portkit.mailbox import Room

B = TypeVar("B", bound=Body)
PortHandler: TypeAlias = "Callable[[Port], object]"
"""An invalidation or no-senders handler: called with the port."""


class Port(ComponentObject, ABC):
    """A capability to send messages to whoever owns the receive right.

    Any thread may send through, hand on, or invalidate a port. Ports are equal when they are the
    same right. A port is a context manager: leaving the block invalidates it.
    """

    __slots__ = ("__weakref__",)

    _is_port = True
    _answers_once: ClassVar[bool] = False

    # What every kind of port says of itself.

    @property
    @abstractmethod
    def is_valid(self) -> bool:
        """Whether messages can still be accepted. False for ever once False."""

    @property
    @abstractmethod
    def is_remote(self) -> bool:
        """Whether this is a send right only, the receive right being somebody else's."""

    @property
    def name(self) -> str | None:
        """The name under which others find the port, or None."""
        return None

    @property
    def address(self) -> Address | None:
        """The address at which others reach the port, or None."""
        return None

    @property
    def transport(self) -> str:
        """The scheme of the transport that its messages go by, such as "mach"; "" if unknown."""
        address = self.address
        return "" if address is None else address.scheme

    @abstractmethod
    def invalidate(self) -> None:
        """End the port: nothing is sent through it or received at it any more. Idempotent."""

    @abstractmethod
    def _post(self, envelope: Envelope, timeout: float | None) -> None:
        """Get a checked envelope accepted within ``timeout`` seconds, or raise; all or nothing."""

    def _room(self) -> Room | None:
        """Where to wait for room, if the port can be full."""
        return None

    def _is_reached(self) -> bool:
        """Whether it is known where the port is: finding out may wait for other processes."""
        return True

    def _post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """As :meth:`_post`, in order; the error's ``accepted`` counts those that went through."""
        for accepted, envelope in enumerate(envelopes):
            try:
                self._post(envelope, timeout)
            except PortError as error:
                error.accepted = accepted
                raise
        return len(envelopes)

    # Sending.

    def send(
        self,
        components: Components = (),
        *,
        msgid: int = 0,
        reply_port: Port | None = None,
        timeout: float | None = 5.0,
    ) -> None:
        """Send one message; return once it is accepted, not once it is handled.

        Args:
            components: one component, an iterable of them, or a payload; see
                :mod:`portkit.message`.
            msgid: what the message means, 0 to 2**32-1; a payload brings its own.
            reply_port: a port at which the receiver can answer, or check in its own way. The
                ``send_port`` of a request hands that request on: it is the receiver's to answer.
            timeout: seconds to wait for room in the receiver's queue; 0 or less is one
                non-blocking try (P6), None waits for ever.

        Raises:
            InvalidPortError: the port was invalid already (-3).
            BecameInvalidError: it became invalid during the wait (-5).
            SendTimeoutError: no room in time (-1); nothing was sent.
            TypeError, ValueError: an argument is wrong; nothing was sent.
        """
        if type(msgid) is not int or not 0 <= msgid <= MAX_MSGID or reply_port is not None:
            check_envelope(msgid, reply_port)
        if type(components) is bytes:
            packed: Packed = (components,)
        else:
            packed = pack(components)
            if type(packed) is not tuple:
                msgid = msgid_of(packed, msgid)
        if type(timeout) is not float or not timeout >= 0.0:
            check_timeout(timeout)
        if hooks.active:
            with hooks.Sending(self, hooks.kind_of(self), msgid, [packed]) as outgoing:
                self._send(msgid, outgoing._packed[0], reply_port, timeout)
        elif reply_port is not None and isinstance(reply_port, ReplyPort):
            reply_port._hand_on(self, msgid, packed, timeout)
        else:  # as in _send, without its call
            self._post((msgid, packed, reply_port, None), timeout)

    def _send(
        self, msgid: int, packed: Packed, reply_port: Port | None, timeout: float | None
    ) -> None:
        if isinstance(reply_port, ReplyPort):
            reply_port._hand_on(self, msgid, packed, timeout)
        else:
            self._post((msgid, packed, reply_port, None), timeout)

    def send_many(
        self,
        messages: Iterable[PortMessage | Components],
        *,
        timeout: float | None = 5.0,
    ) -> int:
        """Send messages in order, in as few steps as the transport can; return how many.

        Every message is checked before the first is sent.

        Args:
            messages: messages, or the components of messages with msgid 0.
            timeout: seconds for all of them together; 0 or less is one non-blocking try.

        Raises:
            PortError: as :meth:`send`; the error's ``accepted`` says how many went through.
            TypeError, ValueError: a message is wrong, or addressed to another port; nothing was
                sent.
        """
        check_timeout(timeout)
        envelopes = self._envelopes(messages)
        if not (hooks.active and envelopes):
            return self._post_many(envelopes, timeout)
        with hooks.sending_many(self, envelopes) as outgoing:
            return self._post_many(outgoing._packed_into(envelopes), timeout)

    def _envelopes(self, messages: Iterable[PortMessage | Components]) -> list[Envelope]:
        """Check all of them, for :meth:`send_many`."""
        if isinstance(messages, bytes | PortMessage | ComponentObject | Body):
            raise TypeError("send_many takes an iterable of messages; for one message use send")
        return [self._envelope(message) for message in messages]

    def _envelope(self, message: PortMessage | Components) -> Envelope:
        if type(message) is bytes:
            return (0, (message,), None, None)
        if not isinstance(message, PortMessage):
            packed = pack(message)
            return (msgid_of(packed, 0), packed, None, None)
        if message.send_port is not None and message.send_port != self:
            raise ValueError(f"{message!r} is addressed to another port than the one sending it")
        if isinstance(message.receive_port, ReplyPort):
            raise ValueError(  # noqa: TRY004 - it may stand in a message, but not in this call
                "a request is handed on by itself: use send, not send_many"
            )
        return (message.msgid, message._packed, message.receive_port, None)

    def allocate(self, size: int) -> memoryview:
        """A buffer of ``size`` bytes to write into and then send: that copies nothing.

        Towards another process of the host it lies in memory that both share; sending it gives it
        away. After a ``SendTimeoutError`` it is still the caller's.

        Raises:
            TypeError: ``size`` is no int.
            ValueError: ``size`` is less than 1.
            MessageTooLargeError: more than the link may ever share.
            SendTimeoutError: what was shared before has not come back yet.
            InvalidPortError: the port, of another process, is invalid.
        """
        check_size(size)
        return memoryview(LentBytes(size))

    @overload
    def request(
        self,
        components: Components = (),
        *,
        msgid: int = 0,
        reply: None = None,
        send_timeout: float | None = 5.0,
        reply_timeout: float | None = 5.0,
        reply_mode: str | None = None,
    ) -> PortMessage: ...

    @overload
    def request(
        self,
        components: Components = (),
        *,
        msgid: int = 0,
        reply: type[B],
        send_timeout: float | None = 5.0,
        reply_timeout: float | None = 5.0,
        reply_mode: str | None = None,
    ) -> B: ...

    def request(
        self,
        components: Components = (),
        *,
        msgid: int = 0,
        reply: type[B] | None = None,
        send_timeout: float | None = 5.0,
        reply_timeout: float | None = 5.0,
        reply_mode: str | None = None,
    ) -> PortMessage | B:
        """Send a message and wait for its answer (CFMessagePortSendRequest, M9-M14).

        While it waits the thread runs no callback at all, unless ``reply_mode`` names a mode of
        its run loop to be run meanwhile.

        Args:
            components: one component, an iterable of them, or a payload.
            msgid: what the message means, 0 to 2**32-1; a payload brings its own.
            reply: the type of payload that the answer is to be; it is returned then instead of the
                message.
            send_timeout: seconds to wait for room in the receiver's queue.
            reply_timeout: seconds to wait for the answer once the message is accepted; 0 or less
                looks once.
            reply_mode: the mode of the current run loop to run while waiting.

        Raises:
            SendTimeoutError: no room in time (-1).
            ReceiveTimeoutError: no answer in time (-2); a late one is discarded (M10).
            InvalidPortError: the port was invalid already (-3).
            BecameInvalidError: it became invalid with the request unanswered (-5).
            ReplyDroppedError: the receiver let the request go, or its delegate raised.
            InvalidPayloadError: the receiver did not understand the payload; or the answer is none
                of the type ``reply``.
            PortError: only this thread's run loop serves the port, and it would not run.
        """
        if type(msgid) is not int or not 0 <= msgid <= MAX_MSGID:
            check_envelope(msgid, None)
        check_timeout(send_timeout)
        check_timeout(reply_timeout)
        if reply is not None:
            check_reply(reply)
        if type(components) is bytes:
            packed: Packed = (components,)
        elif isinstance(components, Body) and not msgid:  # as below, without its calls
            packed, msgid = Contents(None, components), components.msgid
        else:
            packed = pack(components)
            if type(packed) is not tuple:
                msgid = msgid_of(packed, msgid)
        if reply_mode is not None:
            RunLoop.current()._check_mode(reply_mode)
        self._check_served(reply_mode)
        if hooks.active:
            with hooks.Sending(self, hooks.Kind.REQUEST, msgid, [packed]) as outgoing:
                packed = outgoing._packed[0]
                message = self._ask(msgid, packed, send_timeout, reply_timeout, reply_mode)
                outgoing.answer = message
                return message if reply is None else reply.from_message(message)
        answer = Answer(_thread.current().waiter)
        try:  # as in _ask, without its call
            self._post((msgid, packed, ReplyPort(answer), None), send_timeout)
            self._await(answer, reply_timeout, reply_mode)
            envelope = answer.result(reply_timeout)
        except BaseException:
            answer.abandon()
            raise
        message = arrived(envelope, None)
        return message if reply is None else reply.from_message(message)

    def _ask(
        self,
        msgid: int,
        packed: Packed,
        send_timeout: float | None,
        reply_timeout: float | None,
        reply_mode: str | None,
    ) -> PortMessage:
        answer = Answer(_thread.current().waiter)
        try:
            self._post((msgid, packed, ReplyPort(answer), None), send_timeout)
            self._await(answer, reply_timeout, reply_mode)
            envelope = answer.result(reply_timeout)
        except BaseException:
            answer.abandon()
            raise
        return arrived(envelope, None)

    def _await(self, answer: Answer, timeout: float | None, reply_mode: str | None) -> None:
        """Wait for the answer, or for the time to be over."""
        if reply_mode is None:
            answer.wait(timeout)
        else:
            RunLoop.current()._run_until(reply_mode, timeout, answer)

    def _check_served(self, reply_mode: str | None) -> None:
        """Raise where a request would wait for a loop that the wait itself keeps from running."""

    # Endings.

    @abstractmethod
    def add_invalidation_handler(
        self, handler: PortHandler, *, loop: RunLoop | None = None
    ) -> None:
        """Have ``handler(port)`` called once when the port becomes invalid (M15).

        It is called at once if the port is invalid already (M16); in the call of
        :meth:`invalidate` if the thread that added the handler makes it; otherwise performed in
        the common modes of ``loop``, by default the loop of the adding thread. Where the adding
        thread has no run loop, the invalidating thread calls it.
        """

    def add_no_senders_handler(self, handler: PortHandler, *, loop: RunLoop | None = None) -> None:
        """Have ``handler(port)`` called when the last right exported over a link is gone.

        References inside the process are not counted. Only a receive right has senders.
        """
        self._only_sends("has no senders to count")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.invalidate()

    # Receiving: a receive right overrides all of these.

    @property
    def delegate(self) -> Any:
        """What handles arriving messages; see :class:`portkit.local_port.LocalPort`."""
        return None

    @delegate.setter
    def delegate(self, delegate: Any) -> None:
        self._only_sends("takes no delegate")

    @property
    def queue_limit(self) -> int:
        """How many messages may lie at the receive right unread; 0 where that is elsewhere."""
        return 0

    @property
    def pending(self) -> int:
        """How many messages lie at the receive right unread; 0 where that is elsewhere."""
        return 0

    def receive(self, timeout: float | None) -> PortMessage:
        """Take the next message; a receive right only."""
        self._only_sends("cannot receive")

    def schedule(self, loop: RunLoop, mode: str) -> None:
        """Called by a run loop that the port is added to; a receive right only."""
        self._only_sends("cannot be scheduled on a run loop")

    def unschedule(self, loop: RunLoop, mode: str) -> None:
        """Called by a run loop that the port is removed from; a receive right only."""
        self._only_sends("cannot be scheduled on a run loop")

    def fileno(self) -> int:
        """A descriptor for foreign event loops; a receive right only."""
        self._only_sends("has no descriptor to wait on")

    def deliver(self) -> bool:
        """Deliver the next message, for run loops; a receive right only."""
        self._only_sends("cannot receive")

    def process(self, limit: int = 64) -> int:
        """Deliver what is there, for foreign event loops; a receive right only."""
        self._only_sends("cannot receive")

    def _only_sends(self, what: str) -> NoReturn:
        raise PortError(f"{self!r} only sends and {what}: do this with the port's owner")

    # The answer to a request; only a ReplyPort gives one.

    @property
    def is_abandoned(self) -> bool:
        """Whether this answers a request whose answer nobody waits for any more."""
        return False

    def add_abandon_handler(self, handler: PortHandler, *, loop: RunLoop | None = None) -> None:
        """Have ``handler(port)`` called when nobody waits for the answer any more; a request only.

        Raises:
            PortError: this answers no request.
        """
        raise PortError("only a request can be given up by its sender; this message is one-way")

    def _defer(self) -> None:
        raise PortError("only a request can be deferred; this message is one-way")

    def _drop(self, *, keep_deferred: bool = False) -> None:
        """Let go of an unanswered request."""


class AbandonHandler(Protocol):
    """Who is told that the requester gave up."""

    def notify(self, port: Port) -> None:
        """It has; this thread may call back."""

    def perform(self, port: Port, otherwise: RunLoop | None) -> None:
        """It has; this thread runs no callbacks, but those loops do."""


class ReplyPort(Port):
    """The right to answer one request, once: Mach's send-once right.

    It is the ``send_port`` of an arrived request, and may be handed on: as the reply port of
    another message, or as a component of one. If it goes unused, the requester gets
    ``ReplyDroppedError`` at once instead of a time-out.
    """

    __slots__ = ("_answer", "_generation", "_handlers", "deferred", "used")

    _answers_once = True

    def __init__(self, answer: Outcome) -> None:
        self._answer = answer
        self._generation = _fork.generation
        self._handlers: list[AbandonHandler] = []
        self.deferred: bool = False
        self.used: bool = False

    @property
    def is_valid(self) -> bool:
        """Whether an answer can still be given and somebody still waits for it."""
        return not self.used and not self._answer.done

    @property
    def is_remote(self) -> bool:
        """True: the waiting requester holds the receive right."""
        return True

    @property
    def transport(self) -> str:
        """That of the link which the request came by, else "mach"."""
        return self._answer.transport

    def _post(self, envelope: Envelope, timeout: float | None) -> None:
        if self._generation != _fork.generation:
            raise InvalidPortError("the request came to the process before it was forked")
        if self.used:
            raise PortError("the request was answered or dropped before; it takes one answer")
        settled = self._answer.settle(envelope)
        self.used = True  # not before: an exception in between would leave the requester waiting
        if self._handlers:
            self._handlers.clear()
        if not settled and not self._answer.abandoned:
            raise PortError("another thread answered or dropped this request at the same time")

    def _hand_on(self, port: Port, msgid: int, packed: Packed, timeout: float | None) -> None:
        """Send the right with a message: it moves, as in Mach, and whoever gets it answers."""
        if self.used:
            raise PortError("the request was answered, dropped or handed on before")
        moved = ReplyPort(self._answer)
        try:
            self.used = True
            port._post((msgid, packed, moved, None), timeout)
        except BaseException:
            self.used, moved.used = False, True
            self._hold()
            raise
        self._handlers.clear()  # whoever has it now is told

    def answer(self, result: Any) -> None:
        """Answer with a delegate's return value; None answers with empty data (M11)."""
        try:
            if hooks.active:
                self.send(b"" if result is None else result)
            elif type(result) is bytes:
                self._post((0, (result,), None, None), None)
            elif isinstance(result, Body):  # as in send, without its call and checks
                self._post((result.msgid, Contents(None, result), None, None), None)
            else:
                self.send(b"" if result is None else result)
        except TypeError as error:
            check_not_awaitable(result)
            raise TypeError(f"what the delegate returned is no answer: {error}") from error

    def fail(self, error: PortError) -> None:
        """Have the requester's call raise ``error``, unless there is an answer already."""
        self._answer.settle(error)
        self.used = True

    def invalidate(self) -> None:
        """Give the right up: the requester gets ``ReplyDroppedError``."""
        self._drop()

    def add_invalidation_handler(
        self, handler: PortHandler, *, loop: RunLoop | None = None
    ) -> None:
        """Not for a send-once right: it ends with its use; see :meth:`add_abandon_handler`.

        Raises:
            PortError: always.
        """
        raise PortError(
            "a reply port ends with its one use; add_abandon_handler tells if nobody waits for that"
        )

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more: the requester gave up, or is gone."""
        return self._answer.abandoned

    def add_abandon_handler(self, handler: PortHandler, *, loop: RunLoop | None = None) -> None:
        """As :meth:`portkit.PortMessage.add_abandon_handler`."""
        self._watch(Handler(handler, loop))

    def _watch(self, handler: AbandonHandler) -> None:
        if not self.used:
            self._handlers.append(handler)
            self._hold()

    def _hold(self) -> None:
        """Be who is told if the requester gives up, if anybody wants to know."""
        if self._handlers:
            self._answer.holder = (_tell, weakref.ref(self), None)
            if self._answer.abandoned:
                self._tell(None)

    def _tell(self, otherwise: RunLoop | None) -> None:
        while self._handlers and not self.used:
            try:
                handler = self._handlers.pop(0)
            except IndexError:  # another thread does the same
                return
            if otherwise is None:
                handler.notify(self)
            else:
                handler.perform(self, otherwise)

    def _defer(self) -> None:
        if self.used:
            raise PortError("the request was answered or dropped already; nothing to defer")
        self.deferred = True

    def _drop(self, *, keep_deferred: bool = False) -> None:
        if not self.used and not (keep_deferred and self.deferred):
            _tally.requests_dropped.add()
            self.fail(
                ReplyDroppedError(
                    "the receiver let the request go without an answer; if its delegate raised, "
                    "its log says so"
                )
            )

    def __del__(self) -> None:
        # May run inside anything on any thread: settling takes no lock (see Answer).
        if not self.used and self._generation == _fork.generation:
            self._drop()

    def __repr__(self) -> str:
        return f"<ReplyPort {'used' if self.used else 'open'}>"


def check_not_awaitable(result: object) -> None:
    """Raise where a delegate that nobody awaits returned something to be awaited.

    Raises:
        TypeError: it did; the error says where such a delegate belongs.
    """
    if hasattr(result, "__await__"):
        close = getattr(result, "close", None)
        if close is not None:
            close()  # a coroutine, which else would complain that it was never awaited
        raise TypeError(
            "the delegate is asynchronous, and here nobody awaits what it returned: serve the port "
            "with portkit.aio.serve"
        )


def _tell(ref: weakref.ref[ReplyPort], _: None, otherwise: RunLoop | None) -> None:
    """As :data:`portkit._answer.Holder`. Weakly: who has let go of the request gets nothing."""
    port = ref()
    if port is not None:
        port._tell(otherwise)
