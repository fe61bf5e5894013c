"""The bounded queue of a receive right: any thread puts, one consumer takes.

The lock guards what putting must see whole (open, room, order); it is re-entrant, so that a
finalizer or a signal handler that sends while this thread is inside finds no deadlock. Taking
needs no lock: there is one consumer, and a deque's ends are safe against each other.

The consumer is told once when an empty mailbox gets a message (``signalled``), not for each one:
waking only who sleeps is what makes a port fast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock, get_ident
from time import monotonic
from typing import Protocol

from portkit import _fork, _thread
from portkit._wakeup import Reader, Waiter
from portkit.errors import (
    BecameInvalidError,
    InvalidPortError,
    PortError,
    ReceiveTimeoutError,
    SendTimeoutError,
)
from portkit.message import Envelope


class Onlooked(Protocol):
    """What brings news to somebody who waits for them, but cannot read it himself."""

    def add_onlooker(self) -> None:
        """Somebody begins to wait."""

    def remove_onlooker(self) -> None:
        """He waits no more."""


class Room(Protocol):
    """Where senders wait for room without blocking a thread, see :mod:`portkit.aio`."""

    @property
    def reading(self) -> Onlooked | None:
        """What news of room comes in by, or None within the process."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether there is nothing to wait for but room."""
        ...

    def connecting(self, waiter: Waiter) -> Callable[[], bool] | None:
        """What to wait for before anything can be sent, or None.

        The waiter is rung when there may be news. The result says whether the wait is over, and
        raises where it was in vain.
        """
        ...

    def queue_up(self, waiter: Waiter) -> None:
        """Arm the waiter, and have it rung when there may be room, or never will be."""

    def leave_queue(self, waiter: Waiter) -> None:
        """Undo :meth:`connecting` and :meth:`queue_up`."""


class Mailbox:
    """Envelopes between senders and one consumer.

    Args:
        limit: how many envelopes may lie here unread.

    Attributes:
        queue: the envelopes, oldest first.
        on_ready: called without the lock, on a sender's thread, when there is something to take
            and the consumer was not told yet; None while there is no consumer.
        signalled: the consumer was told and has not found the queue empty since.
        senders: the waiters of threads that wait for room.
        consumer_ident: the thread that alone empties this mailbox, or 0 where that is not fixed.
        closed: no more envelopes; set under the lock.
        lock: see above; also guards who the consumer is.
    """

    __slots__ = (
        "_generation",
        "closed",
        "consumer_ident",
        "limit",
        "lock",
        "on_ready",
        "queue",
        "senders",
        "signalled",
    )

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.queue: deque[Envelope] = deque()
        self.on_ready: Callable[[], None] | None = None
        self.signalled: bool = False
        self.senders: deque[Waiter] = deque()
        self.consumer_ident: int = 0
        self.closed: bool = False
        self.lock: RLock = RLock()
        self._generation = _fork.generation

    def put(self, envelope: Envelope, timeout: float | None) -> None:
        """Append one envelope, waiting up to ``timeout`` seconds for room (P6, P7).

        Raises:
            InvalidPortError: closed before the call, or a fork lies between.
            BecameInvalidError: closed while the call waited.
            SendTimeoutError: no room in time, or only this thread could make room.
        """
        if self._generation != _fork.generation:
            raise InvalidPortError(_FORKED)
        try:
            with self.lock:
                if self.closed:
                    raise InvalidPortError(_CLOSED)
                full = len(self.queue) >= self.limit
                if not full:
                    self.queue.append(envelope)
                    if self.signalled:
                        return
                    self.signalled = True
            if full:
                self._put_waiting((envelope,), 0, timeout)
            elif (ready := self.on_ready) is not None:
                ready()
        except PortError:
            raise
        except BaseException:
            # A signal handler raised: the envelope may be in, with nobody told of it.
            self._tell()
            raise

    def put_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """Append all envelopes, as :meth:`put`; the error's ``accepted`` says how many went in."""
        if self._generation != _fork.generation:
            raise InvalidPortError(_FORKED)
        try:
            accepted = self._put_some(envelopes, 0, InvalidPortError)
            if accepted < len(envelopes):
                self._put_waiting(envelopes, accepted, timeout)
        except PortError:
            raise
        except BaseException:
            self._tell()  # as in put
            raise
        return len(envelopes)

    def admit(self, envelopes: Sequence[Envelope]) -> None:
        """Append envelopes that a link granted room for; the limit was seen to there.

        Raises:
            InvalidPortError: closed.
        """
        with self.lock:
            if self.closed:
                raise InvalidPortError(_CLOSED)
            self.queue.extend(envelopes)
            if self.signalled:
                return
            self.signalled = True
        if (ready := self.on_ready) is not None:
            ready()

    def put_back(self, envelope: Envelope) -> None:
        """Return an envelope that was taken but not delivered to the head of the queue.

        Where the mailbox was closed meanwhile it goes, like those that were unread.
        """
        with self.lock:
            if self.closed:
                return
            self.queue.appendleft(envelope)
        self._tell()

    def rest(self) -> None:
        """For the consumer: it found the queue empty and wants to be told of the next envelope."""
        self.signalled = False
        if self.queue:
            self._tell()

    def take(self, waiter: Waiter, timeout: float | None, reader: Reader | None = None) -> Envelope:
        """For a consumer attached with ``waiter.ring``: the next envelope, waiting for it.

        Args:
            waiter: the consumer's.
            timeout: seconds, or None for ever.
            reader: what envelopes come in by, read by this thread while it waits.

        Raises:
            BecameInvalidError: closed, and nothing is left.
            ReceiveTimeoutError: nothing came in time.
        """
        queue = self.queue
        deadline = None if timeout is None else monotonic() + timeout
        envelope = None
        try:
            while True:
                waiter.armed = self
                self.signalled = False
                try:
                    # Known before it is taken: a signal that strikes right after finds it here.
                    envelope = queue[0]
                    envelope = queue.popleft()
                except IndexError:
                    envelope = None
                else:
                    if self.senders:
                        self.wake_sender()
                    return envelope
                if self.closed:
                    raise BecameInvalidError("the port became invalid while waiting for a message")
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    raise ReceiveTimeoutError(f"no message came within {timeout} s")
                if reader is None:
                    waiter.sleep(remaining)
                else:
                    reader.sleep(waiter, remaining)
        except BaseException:
            if envelope is not None and not (queue and queue[0] is envelope):
                self.put_back(envelope)
            raise

    def wake_sender(self) -> None:
        """For the consumer: there is room for the sender that has waited longest."""
        waiter = None
        try:
            waiter = self.senders[0]
            waiter = self.senders.popleft()
            if waiter.armed is self:
                waiter.ring()
        except IndexError:
            pass
        except BaseException:
            # A signal handler raised: who is no longer among the senders must be rung.
            if waiter is not None:
                waiter.ring()
            raise

    # As Room.

    @property
    def reading(self) -> None:
        """None: who makes room rings."""
        return None

    @property
    def is_connected(self) -> bool:
        """True."""
        return True

    def connecting(self, waiter: Waiter) -> None:
        """None: whoever has the mailbox is connected."""

    def queue_up(self, waiter: Waiter) -> None:
        """Arm the waiter and put it among the senders; who is rung leaves, or queues up again."""
        # Armed first: whoever finds the waiter among the senders must be able to ring it.
        waiter.armed = self
        if waiter not in self.senders:
            self.senders.append(waiter)

    def leave_queue(self, waiter: Waiter) -> None:
        """The sender waits no more."""
        waiter.armed = None
        self._forget_sender(waiter)
        # The wake-up that it got may have been meant for room it did not use.
        if self.senders and len(self.queue) < self.limit:
            self.wake_sender()

    def attach(self, on_ready: Callable[[], None], consumer_ident: int = 0) -> None:
        """Give the mailbox its consumer, which is told at once if envelopes lie here."""
        with self.lock:
            self.on_ready = on_ready
            self.consumer_ident = consumer_ident
            self.signalled = bool(self.queue)
        if self.signalled:
            on_ready()

    def detach(self) -> None:
        """Take the consumer away; what arrives from now on waits for the next one."""
        self.on_ready = None
        self.consumer_ident = 0

    def close(self) -> list[Envelope] | None:
        """Refuse all further envelopes, wake who waits, and return what was unread.

        None where it was closed before, and in a forked child, where it only closes.
        """
        if self._generation != _fork.generation:
            self.closed = True
            return None
        with self.lock:
            if self.closed:
                return None
            self.closed = True
            # One by one: the consumer takes without the lock, and nobody may get what it got.
            unread: list[Envelope] = []
            try:
                while True:
                    unread.append(self.queue.popleft())
            except IndexError:
                pass
        for waiter in list(self.senders):
            waiter.ring()
        self._tell()
        return unread

    def _tell(self) -> None:
        self.signalled = True
        if (ready := self.on_ready) is not None:
            ready()

    def _put_some(
        self, envelopes: Sequence[Envelope], start: int, closed: type[InvalidPortError]
    ) -> int:
        """Append as many as there is room for, from ``start``; return the index of the rest."""
        with self.lock:
            if self.closed:
                raise closed(_CLOSED)
            end = min(len(envelopes), start + max(0, self.limit - len(self.queue)))
            if end == start:
                return start
            self.queue.extend(envelopes[start:end])
            tell = not self.signalled
        if tell:
            self._tell()
        return end

    def _put_waiting(
        self, envelopes: Sequence[Envelope], accepted: int, timeout: float | None
    ) -> None:
        if timeout is not None and timeout <= 0:
            raise self._full(accepted, "has no room")
        if self.consumer_ident == get_ident():
            raise self._full(
                accepted, "is full, and only this thread's run loop can empty it", "queue_limit="
            )
        deadline = None if timeout is None else monotonic() + timeout
        waiter = _thread.current().waiter
        waiter.check_awake()
        try:
            while True:
                self.queue_up(waiter)
                accepted = self._put_some(envelopes, accepted, BecameInvalidError)
                if accepted == len(envelopes):
                    return
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    raise self._full(accepted, f"had no room for {timeout} s")
                waiter.sleep(remaining)
                self._forget_sender(waiter)
        except BecameInvalidError as error:
            error.accepted = accepted
            raise
        finally:
            self.leave_queue(waiter)

    def _forget_sender(self, waiter: Waiter) -> None:
        try:
            self.senders.remove(waiter)
        except ValueError:
            pass

    def _full(
        self, accepted: int, what: str, remedy: str = "timeout= or queue_limit="
    ) -> SendTimeoutError:
        error = SendTimeoutError(
            f"the port's queue of {self.limit} {what}: raise {remedy}, or let the receiver keep up"
        )
        error.accepted = accepted
        return error


_CLOSED = "the port is invalid: it was invalidated or its thread ended; get a new one"
_FORKED = "the port was made before this process was forked: make a new one in the child"
