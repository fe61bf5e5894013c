"""The receive right: a port whose messages arrive in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from portkit import _fork, _handlers, _tally, _thread, hooks
from portkit._arguments import check_limit, check_timeout
from portkit._context import registered
from portkit._doorbell import Doorbell
from portkit._handlers import Handler
from portkit._hooked_delivery import HookedDelivery
from portkit._report import report
from portkit._wakeup import Reader
from portkit.errors import (
    BecameInvalidError,
    InvalidPayloadError,
    InvalidPortError,
    PortError,
)
from portkit.mailbox import Mailbox, Room
from portkit.message import Envelope, PortMessage, arrived, unpacked
from portkit.port import Port, PortHandler, ReplyPort, check_not_awaitable

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import ReadySlot


class Exported(Protocol):
    """A right to a port that is recorded in a link's table."""

    @property
    def reader(self) -> Reader | None:
        """The link, to be read by a thread that waits for messages, or None once it is gone."""
        ...

    def port_ended(self) -> None:
        """The port was invalidated: the peer is to know."""

    def rescheduled(self) -> None:
        """The port was added to, or removed from, a mode of a run loop."""


class Notified(Protocol):
    """Who is told that a port has ended."""

    def notify(self, port: Port) -> None:
        """It has."""


class LocalPort(Port):
    """A port with a bounded queue and one consumer.

    The consumer is one run loop (in any number of its modes), or a foreign event loop through
    :meth:`fileno` and :meth:`process`, or a thread in :meth:`receive`; mixing them raises.

    The delegate is a callable taking a :class:`~portkit.PortMessage`; or an object with
    ``handle_port_message(message)``; or one with ``handle_raw_message(port, msgid, components,
    reply_port)``, for which no message object is made and which wins if there are both (P1). It
    is looked up once, when it is set, and held until the port is invalidated. What it returns
    answers a request: bytes or components; None answers with empty data (M11). If it raises, the
    requester gets ``ReplyDroppedError``, and the error goes to the run loop's exception handler.

    Args:
        delegate: what handles arriving messages; may be set later.
        queue_limit: how many messages may lie here unread before senders wait.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    __slots__ = (
        "_context",
        "_delegate",
        "_doorbell",
        "_generation",
        "_handle",
        "_handlers",
        "_is_served_elsewhere",
        "_loop",
        "_mailbox",
        "_no_senders_handlers",
        "_raw",
        "_receiver",
        "_senders",
        "_slots",
    )

    def __init__(self, delegate: Any = None, *, queue_limit: int = 1024) -> None:
        self._generation = _fork.generation
        self._mailbox = Mailbox(check_limit("queue_limit", queue_limit))
        self._loop: RunLoop | None = None
        self._slots: tuple[ReadySlot, ...] = ()
        self._doorbell: Doorbell | None = None
        self._is_served_elsewhere = False
        self._receiver = 0
        self._handlers: list[Notified] = []
        self._no_senders_handlers: list[Handler] = []
        self._senders: tuple[Exported, ...] = ()
        self.delegate = delegate

    @property
    def is_valid(self) -> bool:
        """Whether messages can still arrive."""
        return not self._mailbox.closed and self._generation == _fork.generation

    @property
    def is_remote(self) -> bool:
        """False: this is the receive right."""
        return False

    @property
    def queue_limit(self) -> int:
        """How many messages may lie here unread before senders wait."""
        return self._mailbox.limit

    @property
    def pending(self) -> int:
        """How many messages lie here unread."""
        return len(self._mailbox.queue)

    @property
    def delegate(self) -> Any:
        """What handles arriving messages; see the class. None after invalidation."""
        return self._delegate

    @delegate.setter
    def delegate(self, delegate: Any) -> None:
        raw = getattr(delegate, "handle_raw_message", None)
        handle = getattr(delegate, "handle_port_message", None)
        if handle is None and callable(delegate):
            handle = delegate
        if delegate is not None and raw is None and handle is None:
            raise TypeError(
                f"{type(delegate).__name__} cannot be a delegate: it is not callable and has "
                "neither handle_port_message(message) nor handle_raw_message(port, msgid, "
                "components, reply_port)"
            )
        self._raw: Callable[..., Any] | None = raw
        self._handle: Callable[[PortMessage], Any] | None = handle
        self._context = registered()
        self._delegate = delegate

    # Sending.

    def _post(self, envelope: Envelope, timeout: float | None) -> None:
        self._mailbox.put(envelope, timeout)

    def _post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        return self._mailbox.put_many(envelopes, timeout)

    def _room(self) -> Room:
        return self._mailbox

    def _check_served(self, reply_mode: str | None) -> None:
        self._check_fork()
        loop = self._loop
        if loop is None or loop.ident != get_ident():
            return
        modes = [slot.mode.name for slot in self._slots]
        if reply_mode is None or reply_mode not in modes:
            raise PortError(
                f"only this thread's run loop serves {self!r}, in {modes}, and it would not run "
                f"while the request waits: pass reply_mode= one of these modes"
            )

    # Delivery.

    def deliver(self) -> bool:  # noqa: C901 - the hot path, in one piece
        """Take one message and give it to the delegate; False where there was none.

        For the consumer only. What the delegate raises comes out; the message of an exception
        that strikes before the delegate begins (a signal) goes back to the head of the queue.
        """
        mailbox = self._mailbox
        queue = mailbox.queue
        if not queue:
            mailbox.rest()
            return False
        begun = False
        envelope = reply_port = hooked = None
        try:
            # Known before it is taken: a signal that strikes right after still finds it here.
            envelope = queue[0]
            envelope = queue.popleft()
            if queue:
                for slot in self._slots:  # as in _notify; a call would cost a tenth of all this
                    if not slot.queued:
                        slot.queued = True
                        slot.mode.ready.append(slot)
            else:
                mailbox.rest()
            if mailbox.senders:
                mailbox.wake_sender()
            raw = self._raw
            handle = self._handle
            msgid, packed, reply_port, origin = envelope
            if hooks.active and (raw is not None or handle is not None):
                hooked = HookedDelivery(self, envelope, raw, handle)
                if self._context is None:
                    hooked.run()
                else:
                    self._context.copy().run(hooked.run)
                return True
            if origin is not None:
                origin.taken(packed)
            if self._context is not None:  # in C, where no signal strikes before the delegate runs
                run: Callable[..., Any] = self._context.copy().run
                raw = partial(run, raw) if raw else None
                handle = partial(run, handle) if handle else None
            if raw is not None:
                plain = packed if type(packed) is tuple else unpacked(packed)
                begun = True
                result = raw(self, msgid, plain, reply_port)
            elif handle is not None:
                message = PortMessage.__new__(PortMessage)  # as in arrived, without its call
                message.msgid, message._packed, message.send_port, message._origin = envelope
                message.receive_port = self
                begun = True
                result = handle(message)
                del message
            elif mailbox.closed:  # invalidated since it was taken: as if it had been unread
                begun = True
                if type(reply_port) is ReplyPort:
                    reply_port.fail(_unread())
                return True
            else:
                begun = True
                raise _no_delegate()
            if type(reply_port) is ReplyPort:
                # Let go of the message: what lies out of line goes back with the answer.
                plain = packed = ()
                envelope = None
                if result is not None:
                    reply_port.answer(result)
                elif not (reply_port.used or reply_port.deferred):
                    reply_port.answer(None)
            elif result is not None:
                check_not_awaitable(result)
        except BaseException as error:
            if (
                begun
                or (hooked is not None and hooked.begun)
                or isinstance(error, InvalidPayloadError)  # it cannot be encoded for the delegate
            ):
                if type(reply_port) is ReplyPort:
                    reply_port._drop()
            elif isinstance(error, IndexError):
                return False  # invalidated on another thread meanwhile
            elif envelope is not None and not (queue and queue[0] is envelope):
                mailbox.put_back(envelope)
            raise
        return True

    def receive(self, timeout: float | None) -> PortMessage:
        """Block until a message is there and take it, on a thread that runs no loop.

        Args:
            timeout: seconds to wait; 0 or less looks once, None waits for ever.

        Raises:
            ReceiveTimeoutError: no message in time (-2).
            InvalidPortError: the port was invalid already (-3).
            BecameInvalidError: it became invalid during the wait (-5).
            PortError: another consumer serves the port.
        """
        check_timeout(timeout)
        self._check_fork()
        mailbox = self._mailbox
        waiter = _thread.current().waiter
        waiter.check_awake()
        receiving = False
        reader: Reader | None = None
        try:
            with mailbox.lock:
                self._check_consumer()
                if mailbox.closed:
                    raise InvalidPortError(f"{self!r} is invalid; nothing arrives at it any more")
                receiving = True
                self._receiver = get_ident()
            mailbox.attach(waiter.ring, self._receiver)
            reader = self._reader()
            envelope = mailbox.take(waiter, timeout, reader)
            if hooks.active:
                self._tell_hooks(envelope)
            if envelope[3] is not None:
                envelope[3].taken(envelope[1])
            return arrived(envelope, self)
        finally:
            if receiving:
                waiter.armed = None
                if reader is not None:
                    reader.leave(waiter)
                mailbox.detach()
                self._receiver = 0

    def _tell_hooks(self, envelope: Envelope) -> None:
        try:
            hooks.received(self, arrived(envelope, self))
        except BaseException:  # of a signal handler
            self._mailbox.put_back(envelope)
            raise

    def _begin_receiving(self, on_ready: Callable[[], None]) -> None:
        """For :mod:`portkit.aio`: be the consumer, from this thread; errors as :meth:`receive`."""
        self._check_fork()
        with self._mailbox.lock:
            self._check_consumer()
            if self._mailbox.closed:
                raise InvalidPortError(f"{self!r} is invalid; nothing arrives at it any more")
            self._receiver = get_ident()
        self._mailbox.attach(on_ready, self._receiver)
        self._serve_elsewhere()

    def _end_receiving(self) -> None:
        # In finalizers, too: so links, which have locks, are not told.
        self._mailbox.detach()
        self._receiver = 0

    def _serve_elsewhere(self) -> None:
        """The consumer is an event loop that reads no link; once more, as a rule."""
        if not self._is_served_elsewhere:
            self._is_served_elsewhere = True
            for sender in self._senders:
                sender.rescheduled()

    def fileno(self) -> int:
        """A descriptor that is readable while messages are waiting, for foreign event loops.

        It is opened at the first call, closed by :meth:`invalidate`, and level-triggered: when it
        is readable call :meth:`process`. Take it out of the event loop before invalidating.

        Raises:
            InvalidPortError: the port is invalid.
            PortError: another consumer serves the port.
        """
        self._check_fork()
        doorbell = self._doorbell
        if doorbell is None:
            doorbell = self._open_doorbell()
        return doorbell.read_fd

    def _open_doorbell(self) -> Doorbell:
        self._check_fork()
        with self._mailbox.lock:
            if self._mailbox.closed:
                raise InvalidPortError(f"{self!r} is invalid and has no descriptor")
            self._check_consumer()
            doorbell = self._doorbell = Doorbell(repr(self))
        self._mailbox.attach(doorbell.ring)
        self._serve_elsewhere()
        return doorbell

    def process(self, limit: int = 64) -> int:
        """Deliver up to ``limit`` waiting messages to the delegate without blocking.

        Returns:
            How many were delivered; 0 is normal: :meth:`fileno` may be readable for nothing.

        Raises:
            PortError: another consumer serves the port.
        """
        if not self.is_valid:
            return 0
        if self._doorbell is None:
            self._open_doorbell()
        delivered = 0
        while delivered < limit:
            try:
                if not self.deliver():
                    break
            except Exception as error:
                report("a port's delegate raised", error, self)
            delivered += 1
        self._quieten()
        return delivered

    def _quieten(self) -> None:
        # Not in process(): a delegate's traceback that somebody keeps would keep the pipe open.
        doorbell = self._doorbell
        if doorbell is not None and not self._mailbox.queue:
            doorbell.drain()
            self._mailbox.rest()
        waiter = _thread.present_waiter()
        if waiter is not None:
            waiter.flush()  # as a run loop does before it waits

    # The run loop's side.

    def schedule(self, loop: RunLoop, mode: str) -> None:
        """Have ``loop`` deliver this port's messages in ``mode``; called by ``add_port``.

        Raises:
            ValueError: the port is invalid.
            PortError: another consumer serves the port.
        """
        self._check_fork()
        slot = loop._ready_slot(self, mode)
        with self._mailbox.lock:
            if self._mailbox.closed:
                raise ValueError(f"{self!r} is invalid and can be added nowhere: make a new one")
            self._check_consumer(loop)
            self._loop = loop
            self._slots += (slot,)
            self._is_served_elsewhere = False
        self._mailbox.attach(self._notify, loop.ident)
        for sender in self._senders:
            sender.rescheduled()

    def unschedule(self, loop: RunLoop, mode: str) -> None:
        """Undo :meth:`schedule`; called by ``remove_port``. Messages stay in the queue."""
        with self._mailbox.lock:
            for slot in self._slots:
                if slot.mode.name == mode:
                    slot.port = None
                    # A mode that never runs would keep it. Only here nobody takes slots meanwhile.
                    if slot.queued and loop.ident == get_ident():
                        with suppress(ValueError):
                            slot.mode.ready.remove(slot)
            self._slots = tuple([slot for slot in self._slots if slot.port is not None])
            if not self._slots:
                self._loop = None
                self._mailbox.detach()
        for sender in self._senders:
            sender.rescheduled()

    def _notify(self) -> None:
        for slot in self._slots:
            if not slot.queued:
                slot.queued = True
                slot.mode.ready.append(slot)
            mode = slot.mode
            if slot.waiter.armed is mode:
                slot.waiter.ring()
            elif mode.bell is not None:
                mode.bell.ring()

    def _check_consumer(self, loop: RunLoop | None = None) -> None:
        """Raise if anyone but ``loop`` takes this port's messages."""
        if self._loop is not None and self._loop is not loop:
            raise PortError(
                f"{self!r} is served by the run loop of thread "
                f"{_thread.thread_name(self._loop.ident)}: remove it there first"
            )
        if self._doorbell is not None:
            raise PortError(
                f"{self!r} is served through fileno() and process(); it has one consumer"
            )
        if self._receiver:
            raise PortError(
                f"thread {_thread.thread_name(self._receiver)} is in receive() on {self!r}; "
                "a port has one consumer at a time"
            )

    # Endings.

    def invalidate(self) -> None:
        """End the port. Any thread; idempotent; never waits for a callback.

        Unread messages are destroyed: requests among them fail with ``BecameInvalidError``.
        Messages already taken can still be answered. On the delivering thread no callback starts
        after this returns; from another thread at most one may be under way.
        """
        if self._loop is not None:
            self._mailbox.detach()  # a loop need not be told: the port is about to leave it
        unread = self._mailbox.close()
        if unread is None:
            return
        _tally.messages_destroyed.add(len(unread))
        for envelope in unread:
            if type(envelope[2]) is ReplyPort:
                envelope[2].fail(_unread())
        unread.clear()
        handlers, self._handlers = self._handlers, []
        senders, self._senders = self._senders, ()
        try:
            for sender in senders:
                sender.port_ended()
            self._withdraw()
            for handler in handlers:
                handler.notify(self)
            if _handlers.announce_end is not None:
                _handlers.announce_end(self, True)
        finally:
            doorbell, self._doorbell = self._doorbell, None
            if doorbell is not None:
                doorbell.given_up = True
            loop = self._loop
            if loop is not None:
                loop._forget_port(self)
            self._mailbox.detach()
            self._no_senders_handlers = []
            self.delegate = None

    def _withdraw(self) -> None:
        """Give up what a transport's port owns beside its queue: names, sockets (M15)."""

    def add_invalidation_handler(
        self, handler: PortHandler, *, loop: RunLoop | None = None
    ) -> None:
        """As :meth:`Port.add_invalidation_handler`."""
        record = Handler(handler, loop)
        if self._generation == _fork.generation:
            with self._mailbox.lock:
                if not self._mailbox.closed:
                    self._handlers.append(record)
                    return
        record.notify(self)

    def add_no_senders_handler(self, handler: PortHandler, *, loop: RunLoop | None = None) -> None:
        """As :meth:`Port.add_no_senders_handler`. Called each time the last one goes."""
        record = Handler(handler, loop)
        self._check_fork()
        with self._mailbox.lock:
            self._no_senders_handlers.append(record)

    def _add_sender(self, sender: Exported) -> bool:
        """For links: one more peer holds a right to this port; False where the port has ended."""
        with self._mailbox.lock:
            if self._mailbox.closed:
                return False
            self._senders += (sender,)
        return True

    def _drop_sender(self, sender: Exported, otherwise: RunLoop | None) -> None:
        """For links: a peer holds no right to this port any more.

        Handlers are performed on their own loops; those without one on the loop ``otherwise``.
        """
        with self._mailbox.lock:
            before = self._senders
            self._senders = tuple([other for other in before if other is not sender])
            last = bool(before) and not self._senders
            handlers = list(self._no_senders_handlers) if last else []
        for handler in handlers:
            handler.perform(self, otherwise)

    def _tell_end(self, listener: Notified) -> bool:
        """For handles: have ``listener`` told of the end; False where the port has ended."""
        with self._mailbox.lock:
            if self._mailbox.closed:
                return False
            self._handlers.append(listener)
        return True

    def _admit(self, envelopes: Sequence[Envelope]) -> None:
        """For links: queue messages that came by a right with room granted for them."""
        self._mailbox.admit(envelopes)

    def _reader(self) -> Reader | None:
        """The link to read while waiting for a message, where there is just one to come by."""
        senders = self._senders
        return senders[0].reader if len(senders) == 1 else None

    def _check_fork(self) -> None:
        if self._generation != _fork.generation:
            raise InvalidPortError(
                f"{self!r} was made before this process was forked: make a new one"
            )

    def __repr__(self) -> str:
        state = f"{self.pending} pending" if self.is_valid else "invalid"
        return f"<{type(self).__name__} {id(self):#x} {state}>"


def _unread() -> BecameInvalidError:
    return BecameInvalidError("the port was invalidated with the request unread")


def _no_delegate() -> PortError:
    return PortError("a message was dropped: set the port's delegate before scheduling it")
