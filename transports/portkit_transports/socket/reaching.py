"""Getting a connection to the port at an address, and another one when that was lost."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from portkit import _fork
from portkit._report import logger
from portkit.errors import (
    AuthenticationError,
    BecameInvalidError,
    InvalidPortError,
    PortError,
    TransportError,
)
from portkit.link import service
from portkit.link.incoming import PEER_ENDED
from portkit.link.node import ANYONE, Node, Settings
from portkit.link.rights import Import
from portkit.link.table import ATTEMPTS, OPENED
from portkit.message import Envelope
from portkit.port import ReplyPort
from portkit_transports.socket.dialling import Destination, Dialling
from portkit_transports.socket.handshake import SocketChannel
from portkit_transports.socket.requests import Requests

if TYPE_CHECKING:
    from portkit._wakeup import Waiter
    from portkit.link.link import Link


class ConnectionEvent(NamedTuple):
    """A connection of a remote port that reconnects was lost, or is there again.

    Attributes:
        is_connected: which of the two.
        reason: why it was lost.
        unacknowledged: how many messages may be lost: sent, and not known to have been taken from
            the receiver's queue. The last ones that were sent.
    """

    is_connected: bool
    reason: str = ""
    unacknowledged: int = 0


class Handle(Protocol):
    """Who holds such a right."""

    def _lost(self) -> None:
        """It has ended."""

    def _connection_changed(self, event: ConnectionEvent) -> bool:
        """Its connection was lost, or is there again; whether that was passed on."""
        ...


class Reaching:
    """The connection to whatever port is at an address, while there is one.

    Args:
        destination: the address, and how to get there.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_dialling",
        "_ending",
        "_failed",
        "_failure",
        "_first",
        "_handles",
        "_keeping",
        "_lock",
        "_numbers",
        "_onward",
        "_opening",
        "_requests",
        "_right",
        "_waiting",
        "_was_connected",
        "destination",
    )

    def __init__(self, destination: Destination) -> None:
        self.destination: Destination = destination
        # The same right on all its connections: by an earlier one nothing comes any more.
        self._numbers = _numbers()
        self._lock = RLock()  # re-entrant for signal handlers; nothing of a program is called in it
        self._dialling: Dialling | None = None
        self._opening: Import | None = None
        self._right: Import | None = None
        self._first: Envelope | None = None
        self._keeping: Reaching | None = None
        self._failure: PortError = TransportError("not connected yet")
        self._attempts = 0
        self._failed = 0
        self._was_connected = False
        self._ending = ""
        self._waiting: deque[Waiter] = deque()
        self._onward: tuple[Callable[[], None], ...] = ()
        self._handles: list[weakref.ref[Handle]] = []
        self._requests = Requests()

    @property
    def is_alive(self) -> bool:
        """Whether messages can still be accepted; True before anything is known."""
        return not self._ending

    @property
    def is_connected(self) -> bool:
        """Whether the port was reached, and nothing else is known since."""
        right = self._right
        return right is not None and right.is_alive

    def watch(self, handle: Handle) -> bool:
        """Have the handle told of the end; False where that has come. Connects to nobody."""
        with self._lock:
            self._handles = [ref for ref in self._handles if ref() is not None]
            self._handles.append(weakref.ref(handle))
            return self.is_alive

    # Connecting. On the service thread, but for the first call of _dial.

    def _dial(self, pause: float = 0.0) -> None:
        with self._lock:
            if self._dialling is None and self._opening is None and self.is_alive:
                dialling = self._dialling = Dialling(self.destination, _weakly(self))
                try:
                    dialling.start(pause)
                except BaseException:  # such as a signal handler's: the next use begins anew
                    self._dialling = None
                    dialling.cancel()
                    raise

    def _dialled(self, outcome: SocketChannel | PortError) -> None:
        if isinstance(outcome, PortError):
            self._dialling_failed(outcome)
            return
        destination = self.destination
        link = node_of(destination.settings).dial(outcome)
        try:
            right = link.table.open(destination.port_id, ANYONE, next(self._numbers))
        except BecameInvalidError:
            self._dialling_failed(
                TransportError(f"{destination}: {link.ending or 'the connection was lost'}")
            )
            return
        with self._lock:
            self._dialling, self._opening = None, right
        with link.lock:
            right.onward += (_confirming(self),)
        loop = service.loop()
        if loop is not None:
            loop.call_later(destination.connect_timeout, _giving_up(self, right))
        if not right.watch(self):
            self._lost()
        link.reading.look_after()

    def _dialling_failed(self, error: PortError) -> None:
        with self._lock:
            self._dialling = None
            go_on = self._note_failure(error)
        go_on()

    def _give_up(self, right: Import) -> None:
        """On the service thread: connect_timeout is over."""
        if self._opening is right:
            timeout = self.destination.connect_timeout
            right.link.close(f"the peer did not greet within {timeout} s")

    def _confirmed(self) -> None:
        """The port is there: send what waits. On whichever thread reads the connection."""
        right = self._opening
        if right is None or not right.is_confirmed or not right.is_alive:
            return  # its end is told in another way
        was_connected = False
        while True:
            with self._lock:
                first, self._first = self._first, None
                if first is None:
                    self._keeping = None  # not before: else another is kept, and stays
                    if self._opening is not right:
                        return
                    self._requests = Requests()  # first: see post
                    self._opening, self._right = None, right
                    self._failed = 0
                    was_connected, self._was_connected = self._was_connected, True
                    if was_connected:
                        self._tell(ConnectionEvent(is_connected=True))
                    break
            try:
                right.post(first, 0)
            except (PortError, TypeError) as error:
                if type(error) is InvalidPortError and has_ended(right):
                    self._first = first  # nothing was sent: it waits for the next connection
                    return
                self._first_lost(first, error)
        self._ring()
        if was_connected:
            logger.info("%s is connected again", self.destination)

    def _lost(self) -> None:
        """The port, or the connection to it, has ended. Any thread; also called where it has not.

        Whoever finds the end first does this, so that no other connection comes in between.
        """
        right = self._right or self._opening
        if right is None or right.is_alive:
            return
        link = right.link
        with link.lock:  # who reads may be about to note what was taken
            sent, taken = right.sent, right.taken
        with self._lock:
            if right is not (self._right or self._opening):
                return  # another thread was quicker
            answered = 0 if self._right is None else self._requests.last_answered()
            # The message that was kept may have gone by a connection that was never published.
            was_open = self._right is not None or sent > 0
            self._right = self._opening = None
            self._was_connected = self._was_connected or was_open
            if was_open:
                reason = link.ending or "its owner invalidated it"
                unacknowledged = sent - max(taken, answered)
                go_on = self._note_loss(link, ConnectionEvent(False, reason, unacknowledged))
            else:
                reason = link.ending or "the port that is meant is not there"
                kind = AuthenticationError if link.was_refused else TransportError
                go_on = self._note_failure(kind(f"{self.destination}: {reason}"))
        go_on()

    def _note_loss(self, link: Link, event: ConnectionEvent) -> Callable[[], None]:
        """A connection was lost: what to do about it. With the lock, but that without."""
        backoff = self.destination.reconnect
        if backoff is None:
            return partial(self._end, event.reason)
        pause = backoff.pause(0) or 0.0
        has_read_all = link.is_finished and event.reason == PEER_ENDED
        is_told = has_read_all or self._tell(event)

        def go_on() -> None:
            if not is_told:
                lost = f"{event.unacknowledged} may be" if event.unacknowledged else "none is"
                logger.warning(
                    "%s: %s; of the messages to it %s lost: "
                    "add_connection_handler() tells the program",
                    self.destination,
                    event.reason,
                    lost,
                )
            if not link.is_finished:  # else the process ends
                self._dial(pause)

        return go_on

    def _note_failure(self, error: PortError) -> Callable[[], None]:
        """An attempt has failed: what to do about it. With the lock, but that without."""
        backoff = self.destination.reconnect
        self._attempts += 1
        self._failed += 1
        self._failure = error
        pause = None if backoff is None else backoff.pause(self._failed)
        is_first = self._failed == 1
        ends = pause is None and (backoff is not None or self._first is not None)

        def go_on() -> None:
            if pause is not None:
                if is_first:
                    logger.warning("%s; trying again", str(error))
                self._dial(pause)
            elif ends:
                self._end(str(error))
            self._ring()

        return go_on

    def _end(self, reason: str) -> None:
        with self._lock:
            if self._ending:
                return
            self._ending = reason
            first, self._first, self._keeping = self._first, None, None
            handles, self._handles = self._handles, []
            dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        if first is not None:
            self._first_lost(first, BecameInvalidError(reason))
        for ref in handles:
            handle = ref()
            if handle is not None:
                handle._lost()
        self._ring()

    def _first_lost(self, envelope: Envelope, error: Exception) -> None:
        """A message was accepted before there was a connection, and none came."""
        reply_port = envelope[2]
        if type(reply_port) is ReplyPort:
            reply_port.fail(BecameInvalidError(str(error)))
        else:
            # As text: whoever keeps the log's records would keep the frames of the error, and this.
            logger.warning("a message to %s could not be sent: %s", self.destination, str(error))

    def _ring(self) -> None:
        with self._lock:
            waiting = list(self._waiting)
            onward, self._onward = self._onward, ()
        for waiter in waiting:
            waiter.ring()
        for callback in onward:
            callback()

    def _tell(self, event: ConnectionEvent) -> bool:
        """Whether there was somebody to tell. With the lock, so that it is told in order."""
        told = False
        for ref in list(self._handles):
            handle = ref()
            if handle is not None:
                told = handle._connection_changed(event) or told
        return told

    def __del__(self) -> None:
        # May run inside anything on any thread: this takes no lock.
        dialling = self._dialling
        if dialling is not None:
            dialling.cancel()

    def __repr__(self) -> str:
        return f"to {self.destination}"


def has_ended(right: Import) -> bool:
    """Whether nothing can be sent by it any more."""
    if right.link.is_closed:
        right.end()  # as whoever closes it is about to
    return not right.is_alive


_serials = count(1)


def _numbers() -> Iterator[int]:
    while True:
        first = OPENED + next(_serials) * ATTEMPTS
        yield from range(first, first + ATTEMPTS)


def _weakly(right: Reaching) -> Callable[[SocketChannel | PortError], None]:
    """Passes on what came of dialling, if anybody still wants it."""
    ref = weakref.ref(right)

    def dialled(outcome: SocketChannel | PortError) -> None:
        found = ref()
        if found is not None:
            found._dialled(outcome)
        elif not isinstance(outcome, PortError):
            outcome.shutdown()

    return dialled


def _confirming(right: Reaching) -> Callable[[], None]:
    ref = weakref.ref(right)

    def confirmed() -> None:
        found = ref()
        if found is not None:
            found._confirmed()

    return confirmed


def _giving_up(right: Reaching, opening: Import) -> Callable[[], None]:
    ref, opening_ref = weakref.ref(right), weakref.ref(opening)

    def give_up() -> None:
        found, still = ref(), opening_ref()
        if found is not None and still is not None:
            found._give_up(still)

    return give_up


_nodes: dict[Settings, Node] = {}


def node_of(settings: Settings) -> Node:
    """This process's side of the links that it dials with those settings."""
    return _nodes.get(settings) or _nodes.setdefault(
        settings, Node(settings, keeps=lambda: False, transport="socket")
    )


_fork.call_in_child(_nodes.clear)
