"""The rights that a link records: what the peer may send to here, and what we may send to there.

Numbers are given out by the side that has the port and never used again, so a right that was
released or has ended can be mistaken for no other. ``release`` counts how often the right had
come: while a copy of it is on its way, the release of the earlier ones does not end it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from portkit._wakeup import Reader, Waiter
from portkit.errors import BecameInvalidError, InvalidPortError, ProtocolError
from portkit.link.flow import HALF_WINDOW, LARGEST_COMPONENT, WINDOW, cost
from portkit.link.relay import RELAY_WINDOW, Relay
from portkit.link.remote_port import RemotePort
from portkit.local_port import LocalPort
from portkit.message import Envelope, Packed, Sender
from portkit.port import Port

if TYPE_CHECKING:
    from portkit.link.link import Link
    from portkit.link.reading import Reading


class Watcher(Protocol):
    """Somebody who is told of a right's end."""

    def _lost(self) -> None:
        """It has ended, which a thread found out that may be anywhere."""


class Import:
    """A right to send to a port of the peer; held by handles, and released with the last.

    Attributes:
        link: by which it came.
        number: the peer's number for it.
        messages, size: the room that the peer has granted, in messages and in bytes.
        window: that room in messages while nothing is on its way.
        granted: messages that the peer has granted in all.
        is_confirmed: the peer knows of the right; False for one by address until it says so.
        waiting: threads that wait for more.
        onward: called when there is more room, for what is relayed.
        is_alive: False for ever once the port, or the link, has ended.
    """

    __slots__ = (
        "__weakref__",
        "_handles",
        "granted",
        "is_alive",
        "is_confirmed",
        "link",
        "messages",
        "number",
        "onward",
        "size",
        "waiting",
        "window",
    )

    def __init__(self, link: Link, number: int, messages: int, size: int) -> None:
        self.link: Link = link
        self.number: int = number
        self.messages: int = messages
        self.size: int = size
        self.window: int = messages
        self.granted: int = messages
        self.is_confirmed: bool = True
        self.waiting: deque[Waiter] = deque()
        self.onward: tuple[Callable[[], None], ...] = ()
        self.is_alive: bool = True
        self._handles: list[weakref.ref[Watcher]] = []

    @property
    def sent(self) -> int:
        """How many messages were sent by it."""
        return self.granted - self.messages

    @property
    def taken(self) -> int:
        """How many of these are known to have been taken from the port's queue: the first ones."""
        return self.granted - self.window

    def post(self, envelope: Envelope, timeout: float | None) -> None:
        """Send; as ``Port._post``."""
        try:
            self.link.sending.post(self, envelope, timeout)
        except BecameInvalidError as error:
            raise self.link.explained(error) from None

    def post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """Send; as ``Port._post_many``."""
        try:
            return self.link.sending.post_many(self, envelopes, timeout)
        except BecameInvalidError as error:
            raise self._explained(error) from None

    def _explained(self, error: BecameInvalidError) -> BecameInvalidError:
        # Not in post_many: its frame would hold the error that holds the frame, and the right.
        explained = self.link.explained(error)
        explained.accepted = error.accepted
        return explained

    def allocate(self, size: int) -> memoryview:
        """A buffer in memory that the peer will see."""
        return self.link.lending.allocate(size)

    @property
    def reading(self) -> Reading:
        """What answers come in by."""
        return self.link.reading

    @property
    def local(self) -> Port | None:
        """None: the port is the peer's."""
        return None

    # As portkit.mailbox.Room.

    @property
    def is_connected(self) -> bool:
        """True."""
        return True

    def connecting(self, waiter: Waiter) -> None:
        """None: there is a connection."""

    def queue_up(self, waiter: Waiter) -> None:
        """Arm the waiter, and have it rung when there may be room."""
        self.link.sending.queue_up(self, waiter)

    def leave_queue(self, waiter: Waiter) -> None:
        """The sender waits no more."""
        self.link.sending.leave_queue(self, waiter)

    def number_on(self, link: Link) -> int | None:
        """The peer's number for the port, if that link leads to it."""
        return self.number if link is self.link else None

    def call_when_room(self, size: int, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called when there is more room; False where so much is there now."""
        return self.link.sending.call_when_room(self, size, callback)

    def resolve(self) -> Import:
        """Itself."""
        return self

    @property
    def is_resolved(self) -> bool:
        """True."""
        return True

    def watch(self, handle: Watcher) -> bool:
        """Have the handle told of the end; False where that has come."""
        with self.link.lock:
            if self.is_alive:
                self._handles = [ref for ref in self._handles if ref() is not None]
                self._handles.append(weakref.ref(handle))
            return self.is_alive

    def end(self) -> None:
        """The port or the link has ended: wake who waits, and tell the handles, once."""
        with self.link.lock:
            if not self.is_alive:
                return
            self.is_alive = False
            handles, self._handles = self._handles, []
            waiting = list(self.waiting)
            onward, self.onward = self.onward, ()
        for waiter in waiting:
            waiter.ring()
        for callback in onward:
            callback()  # what waits to be relayed finds the end: who asked is to know
        for ref in handles:
            handle = ref()
            if handle is not None:
                handle._lost()

    def __repr__(self) -> str:
        return f"{self.number} of {self.link.sender or 'a peer'}"


def _nothing() -> None:
    return None


class ImportRef(weakref.ref[Import]):
    """What a table has of a right that came: it tells of the end of the right's last handle.

    It counts, and not the right in a finalizer of its own: that would begin while another thread
    can still get hold of the right, and not come again when it goes after all.

    Args:
        right: the right.
        gone: called with this object when the right is no more.

    Attributes:
        number: the peer's number for the right.
        received: how often it has come.
    """

    __slots__ = ("number", "received")

    def __init__(self, right: Import, gone: Callable[[ImportRef], None]) -> None:
        super().__init__(right, gone)  # type: ignore[call-arg]
        self.number: int = right.number
        self.received: int = 1


class Export:
    """A right of the peer's to send to a port of this side.

    A local port is held weakly: when nobody can receive at it any more, it ends.

    Attributes:
        number: ours for it.
        handed: how often it was sent to the peer, less what the peer has released.
        window: messages that the peer may have unread here.
        allowance, allowance_size: what is left of the room granted; below zero the peer cheats.
        given, given_size: room in all that was given after the right was first handed out.
        port_id: what the peer asked for the port by; empty where it was sent in a message.
        settled: the link has seen to being read by the port's run loop.
    """

    __slots__ = (
        "__weakref__",
        "_copies",
        "_granted",
        "_granted_size",
        "_half",
        "_port",
        "_received",
        "_received_size",
        "_relay",
        "_taken",
        "_taken_size",
        "allowance",
        "allowance_size",
        "given",
        "given_size",
        "handed",
        "link",
        "number",
        "port_id",
        "settled",
        "window",
    )

    def __init__(self, link: Link, number: int, port: Port) -> None:
        self.link: Link = link
        self.number: int = number
        self.handed: int = 0
        # As many as were handed: the room that had been given before, and how many copies then.
        self._copies: deque[list[int]] = deque()
        self.given: int = 0
        self.given_size: int = 0
        self._received = self._received_size = 0
        self.settled: bool = False
        self.port_id: bytes = b""
        self._relay: Relay | None = None
        # Counted without a lock by the one who takes; what of it was granted, under the link's.
        self._taken = self._granted = 0
        self._taken_size = self._granted_size = 0
        self._port: Callable[[], Port | None]
        if isinstance(port, LocalPort):
            self.window: int = port.queue_limit
            self._port = weakref.ref(port, self._collected)
        else:
            assert isinstance(port, RemotePort), "a port is of this process, or by a link"
            self.window = RELAY_WINDOW
            self._port = lambda: port
            self._relay = Relay(port, self.taken)
        self._half = (self.window + 1) // 2
        self.allowance: int = self.window
        self.allowance_size: int = WINDOW

    @property
    def port(self) -> Port | None:
        """The port, unless it is gone."""
        return self._port()

    def hand_out(self) -> None:
        """It is sent to the peer, once more perhaps."""
        self.handed += 1
        if self._copies and self._copies[-1][1:] == [self.given, self.given_size]:
            self._copies[-1][0] += 1
        else:
            self._copies.append([1, self.given, self.given_size])

    def take_back(self, count: int) -> tuple[int, int]:
        """The peer let go of so many copies, before more: what room to give to those, to be whole.

        What was given since the first of these was sent is theirs; what is unread comes back.
        """
        self.handed -= count
        while count >= self._copies[0][0]:
            count -= self._copies.popleft()[0]
        self._copies[0][0] -= count
        _, before, before_size = self._copies[0]
        theirs, theirs_size = self.given - before, self.given_size - before_size
        unread = self._received - self._granted
        unread_size = self._received_size - self._granted_size
        more = max(0, self.window - theirs - unread)
        more_size = max(0, WINDOW - theirs_size - unread_size)
        self.given += more
        self.given_size += more_size
        self.allowance, self.allowance_size = theirs + more, theirs_size + more_size
        return more, more_size

    def receive(self, envelopes: list[Envelope]) -> None:
        """Put messages that came into the port's queue, or on their way onward.

        Raises:
            InvalidPortError: the port has ended.
            ProtocolError: there was no room granted for them.
        """
        size = 0
        for envelope in envelopes:
            packed = envelope[1]
            if (
                type(packed) is tuple
                and len(packed) == 1
                and type(data := packed[0]) is bytes
                and len(data) < LARGEST_COMPONENT
            ):
                size += len(data)  # as flow.cost, without its call
            else:
                size += cost(packed)
        self._received += len(envelopes)
        self._received_size += size
        self.allowance_size -= size
        self.allowance -= len(envelopes)
        if self.allowance < 0 or self.allowance_size < 0:
            raise ProtocolError(f"the peer sends to right {self.number} without room granted")
        relay = self._relay
        if relay is not None:
            for envelope in envelopes:
                relay.put(envelope)  # which may find out the end, and so bring this right's
            return
        port = self._port()
        if port is None:
            raise InvalidPortError("the port is gone")
        assert isinstance(port, LocalPort), "others are relayed to"
        port._admit(envelopes)
        if not self.settled:
            self.link.reading.settle(self, port)

    def end(self) -> None:
        """The right is no more: let go of the port that is relayed to."""
        self._port = _nothing
        self._relay = None

    # As the origin of the messages that came by it.

    @property
    def sender(self) -> Sender | None:
        """Who is at the other end of the link."""
        return self.link.sender

    def taken(self, packed: Packed) -> None:
        """A message was taken: grant its room again, half a window at a time."""
        self._taken += 1
        if (
            type(packed) is tuple
            and len(packed) == 1
            and type(data := packed[0]) is bytes
            and len(data) < LARGEST_COMPONENT
        ):
            self._taken_size += len(data)  # as in receive
        else:
            self._taken_size += cost(packed)
        if (
            self._taken - self._granted >= self._half
            or self._taken_size - self._granted_size >= HALF_WINDOW
        ):
            self.grant()

    def grant(self) -> None:
        """Tell the peer how much was taken since it was last told."""
        with self.link.lock:
            messages = self._taken - self._granted
            size = self._taken_size - self._granted_size
            if messages:
                self._granted += messages
                self._granted_size += size
                self.link.sending.grant(self, messages, size)

    # As one of the port's senders.

    @property
    def reader(self) -> Reader | None:
        """The link."""
        return None if self.link.is_closed else self.link.reading

    def port_ended(self) -> None:
        """The port was invalidated: the peer is to know."""
        self.link.table.withdraw(self)

    def rescheduled(self) -> None:
        """The port's run loop has changed."""
        self.settled = False
        self.link.reading.unsettle()

    def _collected(self, ref: object) -> None:
        # The collector runs this, perhaps with the link's lock held by this very thread.
        self.link.note_end(self)
