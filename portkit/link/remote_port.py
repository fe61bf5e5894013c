"""Ports whose receive right is elsewhere: handles to a right, each with an end of its own."""

from __future__ import annotations

from collections.abc import Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from portkit import _fork, _handlers
from portkit._answer import Answer
from portkit._handlers import Handler
from portkit.errors import InvalidPortError
from portkit.link import service
from portkit.mailbox import Room
from portkit.message import Envelope
from portkit.port import Port, PortHandler
from portkit.runloop.loop import RunLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from portkit.link.link import Link
    from portkit.link.reading import Reading
    from portkit.link.rights import Export


class Reached(Room, Protocol):
    """A right to a port whose place is known."""

    def post(self, envelope: Envelope, timeout: float | None) -> None:
        """Send; as ``Port._post``."""

    def post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """Send; as ``Port._post_many``."""
        ...

    def allocate(self, size: int) -> memoryview:
        """A buffer whose sending copies nothing."""
        ...

    @property
    def reading(self) -> Reading | None:
        """What answers come in by, or None within the process."""
        ...

    @property
    def local(self) -> Port | None:
        """The port itself, where it is of this process."""
        ...

    def number_on(self, link: Link) -> int | None:
        """The peer's number for the port, if it is a port of that link's peer."""
        ...

    def call_when_room(self, size: int, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called when there is more room; False where so much is there now.

        Args:
            size: bytes, as a message costs.
            callback: called from any thread, with no lock held.
        """
        ...


class Right(Protocol):
    """What a handle holds: a right whose place is known, or can be found out."""

    @property
    def is_resolved(self) -> bool:
        """Whether :meth:`resolve` waits for nothing."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether messages can still be accepted."""
        ...

    def resolve(self) -> Reached:
        """The right where its port is; looks that up, and dials, where it was not done.

        Raises:
            PortError: it has ended, or nobody is there.
        """
        ...

    def watch(self, handle: RemotePort) -> bool:
        """Have the handle told of the end; False where that has come, or nobody is there yet."""
        ...


_ending_lock = RLock()
"""Held for a few attribute accesses; one that a finalizer on the same thread can take again."""


def _after_fork_in_child() -> None:
    global _ending_lock
    _ending_lock = RLock()  # a thread that is not in the child may have held it


_fork.call_in_child(_after_fork_in_child)


class RemotePort(Port):
    """A handle to a port of another process.

    Handles to one right are equal and hash alike. Invalidating one ends that handle; the right is
    released with the last.

    Args:
        right: what it is a handle to.
    """

    __slots__ = (
        "_generation",
        "_handlers",
        "_has_ended",
        "_hash",
        "_right",
        "_senders",
        "_watched",
    )

    def __init__(self, right: Right) -> None:
        self._right: Right | None = right
        self._hash = hash(right)
        self._generation = _fork.generation
        self._watched = False
        self._has_ended = False
        self._handlers: list[Handler] = []
        self._senders: list[Export] = []

    @property
    def is_valid(self) -> bool:
        """Whether messages can still be accepted, as far as this process has been told."""
        right = self._right
        return right is not None and right.is_alive and self._generation == _fork.generation

    @property
    def is_remote(self) -> bool:
        """True: the receive right is elsewhere."""
        return True

    @property
    def transport(self) -> str:
        """That of the link by which the right came, or of the address."""
        link: Link | None = getattr(self._right, "link", None)
        return super().transport if link is None else link.node.transport

    def allocate(self, size: int) -> memoryview:
        """A buffer to write into and then send: that copies nothing, at any size.

        It lies in memory shared with the port's process. Sending it gives it away; after a
        ``SendTimeoutError`` it is still the caller's.

        Raises:
            TypeError, ValueError: ``size`` is no int, or less than 1.
            MessageTooLargeError: more than the link may ever share.
            SendTimeoutError: what was shared before has not come back yet.
            InvalidPortError: the port is invalid.
        """
        return self._reach().allocate(size)

    def _reach(self) -> Reached:
        if self._generation != _fork.generation:
            raise InvalidPortError("the port was got before this process was forked: get it anew")
        right = self._right
        if right is None:
            raise InvalidPortError("this handle was invalidated: get another one")
        reached = right.resolve()
        if self._handlers and not self._watched:
            self._watch(right)  # which could not be done before it was known where the port is
        return reached

    def _room(self) -> Room:
        return self._reach()

    def _is_reached(self) -> bool:
        right = self._right
        return right is None or right.is_resolved

    def _post(self, envelope: Envelope, timeout: float | None) -> None:
        self._reach().post(envelope, timeout)

    def _post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        return self._reach().post_many(envelopes, timeout)

    def _check_served(self, reply_mode: str | None) -> None:
        local = self._reach().local
        if local is not None:
            local._check_served(reply_mode)

    def _await(self, answer: Answer, timeout: float | None, reply_mode: str | None) -> None:
        right = self._right
        reading = None if right is None or answer.done else right.resolve().reading
        if reply_mode is None:
            answer.wait(timeout, reading)
            return
        if reading is None:
            super()._await(answer, timeout, reply_mode)
            return
        loop = RunLoop.current()
        source = None
        try:
            source = reading.read_in_mode(loop, reply_mode)
            loop._run_until(reply_mode, timeout, answer)
        finally:
            reading.stop_reading(source)

    def read_all(self) -> None:
        """Read all that the port's process has sent so far; it is known to have ended, say.

        Any thread; runs no callback. Nothing where the right has ended, and all was read.
        """
        right = self._right
        if right is not None and right.is_alive:
            reading = right.resolve().reading
            if reading is not None:
                reading.read_all()

    def invalidate(self) -> None:
        """End this handle. Idempotent; the port itself lives on."""
        self._right = None
        self._end(here=True)

    def add_invalidation_handler(
        self, handler: PortHandler, *, loop: RunLoop | None = None
    ) -> None:
        """As :meth:`Port.add_invalidation_handler`. Hold the port: the handler goes with it."""
        record = Handler(handler, loop)
        self._handlers.append(record)
        right = self._right
        if right is not None:
            self._watch(right)
        if (right is None or not right.is_alive) and record in self._handlers:
            self._handlers.remove(record)
            record.notify(self)

    def _watch(self, right: Right) -> bool:
        if not self._watched:
            self._watched = right.watch(self)
        return self._watched and right.is_alive

    def _connection_changed(self, event: Any) -> bool:
        """Its connection was lost, or is there again; whether that was passed on to anybody."""
        return False

    def _lost(self) -> None:
        """The right has ended, which a thread found out that may be anywhere."""
        self._end(here=False)

    def _end(self, *, here: bool) -> None:
        with _ending_lock:  # the port may end while this handle does
            is_first, self._has_ended = not self._has_ended, True
            handlers, self._handlers = self._handlers, []
            senders, self._senders = self._senders, []
        for sender in senders:
            sender.port_ended()
        for handler in handlers:
            if here:
                handler.notify(self)
            else:
                handler.perform(self, service.loop())
        if is_first and _handlers.announce_end is not None:
            _handlers.announce_end(self, here)

    # For links that this port travels over.

    def another(self) -> RemotePort:
        """One more handle to the right, with an end of its own.

        Raises:
            InvalidPortError: this one was invalidated.
        """
        right = self._right
        if right is None:
            raise InvalidPortError("this handle was invalidated: get another one")
        return self._twin(right)

    def _twin(self, right: Right) -> RemotePort:
        return RemotePort(right)

    def prepare_to_travel(self) -> None:
        """Find out where the port is, which may take a connection; without any lock."""
        right = self._right
        if right is not None and right.is_alive:
            right.resolve()

    def _add_sender(self, sender: Export) -> bool:
        self._senders.append(sender)
        right = self._right
        return right is not None and self._watch(right)

    def _drop_sender(self, sender: Export, otherwise: RunLoop | None) -> None:
        if sender in self._senders:
            self._senders.remove(sender)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemotePort):
            return NotImplemented
        if self is other:
            return True
        return self._right is not None and self._right == other._right

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        state = "" if self.is_valid else " invalid"
        return f"<{type(self).__name__}{state} {self._right!r}>"
