"""Rights to ports that are known by their addresses: connected to when they are first used.

With ``reconnect`` a right outlives its connections. What that means:

- A message that was accepted, and of which it is not known that the receiver took it, may be lost
  with its connection: how many there are is reported. None of them is sent again, so none comes
  twice.
- A request that waits for its answer fails with ``BecameInvalidError``, and so does a send in
  whose midst the connection went; both may have reached the receiver.
- A send that begins while there is no connection waits for one.
- Ports that came in messages over the old connection end with it.
- What was sent by the old connection comes before what is sent by the next one, or never.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Sequence
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, ClassVar

from portkit import _fork, _thread
from portkit._arguments import check_size
from portkit.errors import (
    AuthenticationError,
    BecameInvalidError,
    InvalidPortError,
    SendTimeoutError,
)
from portkit.link.flow import FIRST_WINDOW, cost
from portkit.link.rights import Import
from portkit.message import Envelope
from portkit.port import Port, ReplyPort
from portkit_transports.socket.dialling import Destination
from portkit_transports.socket.reaching import Reaching, has_ended

if TYPE_CHECKING:
    from portkit._wakeup import Waiter
    from portkit.link.link import Link
    from portkit.link.reading import Reading


class AddressedRight(Reaching):
    """The right to send to whatever port is at an address.

    Args:
        destination: the address, and how to get there.
    """

    __slots__ = ()

    _known: ClassVar[weakref.WeakValueDictionary[Destination, AddressedRight]] = (
        weakref.WeakValueDictionary()
    )
    _table_lock: ClassVar[Lock] = Lock()

    @classmethod
    def of(cls, destination: Destination) -> AddressedRight:
        """The one of that address, unless that has ended: then a new one."""
        with cls._table_lock:
            found = cls._known.get(destination)
            if found is None or not found.is_alive:
                found = cls._known[destination] = cls(destination)
            return found

    @property
    def is_resolved(self) -> bool:
        """True: connecting is waited for by who sends."""
        return True

    def resolve(self) -> Import | AddressedRight:
        """Where to send: the right on the connection, if that is the only one there will be."""
        right = self._right
        return self if right is None or self.destination.reconnect is not None else right

    # Sending: see portkit.link.remote_port.Reached.

    def post(self, envelope: Envelope, timeout: float | None) -> None:
        """Send; as ``Port._post``. Waits for a connection first, where there is none."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            right = self._right
            if right is None or not right.is_alive:
                right = self._reach(envelope, timeout, deadline)
                if right is None:
                    return
            requests = self._requests  # of this right, if that takes the message
            position = right.sent + 1  # at least: other threads send, too
            try:
                right.post(envelope, None if deadline is None else max(0.0, deadline - monotonic()))
                if self.destination.reconnect is not None and type(envelope[2]) is ReplyPort:
                    requests.note(envelope[2], position)
                return
            except BecameInvalidError:
                raise  # in its midst: it may have arrived
            except InvalidPortError:
                if self.destination.reconnect is None or not has_ended(right):
                    raise

    def post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """Send; as ``Port._post_many``."""
        deadline = None if timeout is None else monotonic() + timeout
        while envelopes:
            right = self._right
            if right is None or not right.is_alive:
                right = self._reach(None, timeout, deadline)
            assert right is not None, "none of several is kept for later"
            try:
                remaining = None if deadline is None else max(0.0, deadline - monotonic())
                return right.post_many(envelopes, remaining)
            except BecameInvalidError:
                raise
            except InvalidPortError as error:
                if self.destination.reconnect is None or error.accepted or not has_ended(right):
                    raise
        return 0

    def allocate(self, size: int) -> memoryview:
        """A buffer; it is copied when it is sent, as hosts share no memory."""
        check_size(size)
        return memoryview(bytearray(size))

    @property
    def reading(self) -> Reading | None:
        """What answers come in by; None while there is no connection."""
        right = self._right
        return None if right is None else right.reading

    @property
    def local(self) -> Port | None:
        """None: where the port is, nobody knows before it is reached."""
        return None

    def number_on(self, link: Link) -> int | None:
        """The peer's number for the port, if the connection is that link."""
        right = self._right
        return None if right is None else right.number_on(link)

    def call_when_room(self, size: int, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called when there is a connection with room; False where there is."""
        with self._lock:
            right = self._right
            if right is None or not right.is_alive:
                if not self.is_alive:
                    return False
                if callback not in self._onward:
                    self._onward += (callback,)
                return True
        return right.call_when_room(size, callback)

    def connect(self, timeout: float | None) -> None:
        """Wait for a connection, where there is none; errors as of :meth:`_reach`."""
        if not self.is_connected:
            deadline = None if timeout is None else monotonic() + timeout
            self._reach(None, timeout, deadline)

    # As portkit.mailbox.Room.

    def connecting(self, waiter: Waiter) -> Callable[[], bool] | None:
        """Connect, where there is no connection; errors as of :meth:`_reach`."""
        self._lost()
        with self._lock:
            attempts = self._attempts
            if self._look(attempts) is not None:
                return None
            self._dial()
            self._waiting.append(waiter)

        def connected() -> bool:
            with self._lock:
                return self._look(attempts) is not None

        return connected

    def queue_up(self, waiter: Waiter) -> None:
        """Arm the waiter, and have it rung when there may be room, or a connection."""
        waiter.armed = self
        with self._lock:
            if waiter not in self._waiting:
                self._waiting.append(waiter)
            right = self._right
        if right is not None:
            right.queue_up(waiter)

    def leave_queue(self, waiter: Waiter) -> None:
        """The sender waits no more."""
        waiter.armed = None
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            right = self._right
        if right is not None:
            right.leave_queue(waiter)

    # Waiting for a connection.

    def _reach(
        self, first: Envelope | None, timeout: float | None, deadline: float | None
    ) -> Import | None:
        """The right on a connection; None if ``first`` will be sent once there is one.

        Raises:
            TransportError, NameNotFoundError: there is none, and no other attempt will be made.
            AuthenticationError: one side refused the other.
            SendTimeoutError: there is none yet.
            InvalidPortError: the right has ended.
        """
        self._lost()
        with self._lock:
            attempts = self._attempts
            found = self._look(attempts)
            if found is not None:
                return found
            self._dial()
            if timeout is not None and timeout <= 0:
                if first is None or self._keeping is not None or cost(first[1]) > FIRST_WINDOW:
                    raise SendTimeoutError(self._not_connected("yet"))
                self._first = first
                self._keeping = self  # it was accepted: handles may go, it may not
                return None
        return self._await_connection(attempts, timeout, deadline)

    def _await_connection(
        self, attempts: int, timeout: float | None, deadline: float | None
    ) -> Import:
        waiter = _thread.current().waiter
        waiter.check_awake()
        try:
            while True:
                waiter.armed = self
                with self._lock:
                    if waiter not in self._waiting:
                        self._waiting.append(waiter)
                    found = self._look(attempts)
                if found is not None:
                    return found
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    raise SendTimeoutError(self._not_connected(f"within {timeout} s"))
                waiter.sleep(remaining)
        finally:
            waiter.armed = None
            with self._lock:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)

    def _look(self, attempts: int) -> Import | None:
        """The right on a connection, if there is one; raises where there will be none."""
        if self._right is not None and self._right.is_alive:
            return self._right
        if self._attempts != attempts:
            failure = self._failure
            # With reconnect others follow, of which only what was refused has no better prospects.
            if self.destination.reconnect is None or isinstance(failure, AuthenticationError):
                raise type(failure)(str(failure))
        if self._ending:
            raise InvalidPortError(f"the port is gone: {self._ending}")
        return None

    def _not_connected(self, when: str) -> str:
        last = f"; the last attempt: {self._failure}" if self._failed else ""
        return f"there is no connection to {self.destination} {when}: raise timeout={last}"


_LINGER = 1.0
"""Seconds for which the end of a process waits for connections that accepted messages wait for."""
_MOMENT = 0.01


def _linger() -> None:
    # Before the links' own linger, as it was registered after that.
    deadline = monotonic() + _LINGER
    for right in list(AddressedRight._known.values()):
        while right._keeping is not None:
            if monotonic() >= deadline:
                if right._first is not None:
                    right._first_lost(right._first, BecameInvalidError("the process ended before"))
                break
            sleep(_MOMENT)


atexit.register(_linger)


def _after_fork_in_child() -> None:
    AddressedRight._table_lock = Lock()
    AddressedRight._known = weakref.WeakValueDictionary()


_fork.call_in_child(_after_fork_in_child)
