"""Sending over a link: credit taken, the frame written; or nothing happened at all.

A message is accepted once it is in the outbox, whole. The usual message, one piece of data of
moderate size, takes the short way through :meth:`Sending.post`; all others are prepared first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from portkit import _fork, _thread
from portkit.errors import BecameInvalidError, InvalidPortError, PortError, SendTimeoutError
from portkit.link import frames
from portkit.link.flow import LARGEST_COMPONENT, cost
from portkit.link.frames import Kind, long_message, simple_message
from portkit.link.outbox import PART_SIZE, Outbox
from portkit.link.transfer import Prepared, encode, give_back, prepare
from portkit.message import Envelope, unadorned
from portkit.port import ReplyPort

if TYPE_CHECKING:
    from portkit._wakeup import Waiter
    from portkit.link.link import Link
    from portkit.link.rights import Export, Import

_MESSAGE = int(Kind.MESSAGE)
_REPLY = int(Kind.REPLY)
_AT_ONCE = 3
"""Sends of a thread since it last waited that are written at once; more are a burst, and gathered:
until 64 KiB are together, the thread is about to wait, or a millisecond is over."""
_LARGEST_OF_A_RUN = 4096
"""Bytes of data up to which messages of one call are written together."""


class Sending:
    """The sending half of a link.

    Args:
        link: whose lock guards it.
        outbox: where frames go.
        outbox_limit: bytes that may wait there before senders do.

    Attributes:
        messages: so far.
        room: threads that wait for the outbox to have room.
        onward: called when it has some, for what is relayed.
    """

    __slots__ = ("_link", "_outbox", "_outbox_limit", "messages", "onward", "room")

    def __init__(self, link: Link, outbox: Outbox, outbox_limit: int) -> None:
        self._link = link
        self._outbox = outbox
        self._outbox_limit = outbox_limit
        self.messages: int = 0
        self.room: deque[Waiter] = deque()
        self.onward: tuple[Callable[[], None], ...] = ()

    @property
    def has_room(self) -> bool:
        """Whether the outbox takes another message."""
        return self._outbox.size <= self._outbox_limit

    def post(self, right: Import, envelope: Envelope, timeout: float | None) -> None:
        """Send one message by a right; as ``Port._post``."""
        msgid, packed, reply_port, _ = envelope
        plain = packed if type(packed) is tuple else unadorned(packed)
        if (
            plain is not None
            and len(plain) == 1
            and type(data := plain[0]) is bytes
            and (size := len(data)) < self._link.lending.inline
            and (reply_port is None or type(reply_port) is ReplyPort)
        ):
            size = min(size, LARGEST_COMPONENT)  # as flow.cost
            with self._link.lock:
                if (
                    right.messages > 0
                    and right.size >= size
                    and self._outbox.size <= self._outbox_limit
                    and right.is_alive
                    and not self._link.write_error
                    and len(data) <= self._link.peer_limits.message
                ):
                    if self._link.notes:
                        self._link.settle_notes()
                    try:
                        once = 0
                        if reply_port is not None:
                            once = self._link.table.expect(reply_port, right.number)
                        right.messages -= 1
                        right.size -= size
                        self.messages += 1
                        make = simple_message if len(data) <= PART_SIZE else long_message
                        frame = make(_MESSAGE, right.number, msgid, once, data)
                        waiter = _thread.current().waiter
                        waiter.sends += 1
                        if waiter.sends <= _AT_ONCE:
                            self._link.write(frame, right.number)
                        else:
                            self._link.gather(frame, right.number, waiter)
                    except BaseException as error:
                        self._link.check_in_step(error)
                        raise
                    return
        self._post_prepared(right, envelope, timeout)

    def post_many(self, right: Import, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """Send messages in order, in as few writes as there is room for; as ``Port._post_many``."""
        deadline = None if timeout is None else monotonic() + timeout
        accepted = 0
        try:
            while accepted < len(envelopes):
                accepted += self._post_run(right, envelopes, accepted)
                if accepted < len(envelopes):
                    remaining = None if deadline is None else max(0.0, deadline - monotonic())
                    self.post(right, envelopes[accepted], remaining)
                    accepted += 1
        except PortError as error:
            error.accepted = accepted
            raise
        return accepted

    def _post_run(self, right: Import, envelopes: Sequence[Envelope], start: int) -> int:
        """Send as many simple messages as there is room for now, in one write; how many."""
        run: list[bytes] = []
        number = right.number
        with self._link.lock:
            if not right.is_alive or self._outbox.size > self._outbox_limit:
                return 0
            most = min(right.messages, len(envelopes) - start)
            room = right.size
            for index in range(start, start + most):
                msgid, packed, reply_port, _ = envelopes[index]
                if type(packed) is not tuple or len(packed) != 1 or reply_port is not None:
                    break
                data = packed[0]
                if type(data) is not bytes or len(data) > _LARGEST_OF_A_RUN or len(data) > room:
                    break
                room -= len(data)
                run.append(simple_message(_MESSAGE, number, msgid, 0, data))
            if run:
                if self._link.notes:
                    self._link.settle_notes()
                try:
                    right.messages -= len(run)
                    right.size = room
                    self.messages += len(run)
                    self._outbox.add_run(run, number)
                    self._link.flush()
                except BaseException as error:
                    self._link.check_in_step(error)
                    raise
        return len(run)

    def _post_prepared(self, right: Import, envelope: Envelope, timeout: float | None) -> None:
        self._check(right, InvalidPortError)
        prepared = prepare(self._link, envelope[1], envelope[2])
        try:
            self._post_waiting(right, envelope, prepared, timeout)
        except BaseException:
            give_back(self._link, prepared.blocks)
            raise

    def _post_waiting(
        self, right: Import, envelope: Envelope, prepared: Prepared, timeout: float | None
    ) -> None:
        size = cost(envelope[1])
        if self._post_now(right, envelope, prepared, size, InvalidPortError):
            return
        self._link.read()  # room may have been granted that nobody has read of
        if self._post_now(right, envelope, prepared, size, BecameInvalidError):
            return
        if timeout is not None and timeout <= 0:
            raise self._full("has no room")
        deadline = None if timeout is None else monotonic() + timeout
        waiter = _thread.current().waiter
        waiter.check_awake()
        try:
            while True:
                self.queue_up(right, waiter)
                if self._post_now(right, envelope, prepared, size, BecameInvalidError):
                    return
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    raise self._full(f"had no room for {timeout} s")
                self._link.reading.sleep(waiter, remaining)
        finally:
            self.leave_queue(right, waiter)
            self._link.reading.leave(waiter)

    def queue_up(self, right: Import, waiter: Waiter) -> None:
        """As :meth:`portkit.mailbox.Room.queue_up`."""
        waiter.armed = right
        for waiting in (right.waiting, self.room):
            if waiter not in waiting:
                waiting.append(waiter)

    def leave_queue(self, right: Import, waiter: Waiter) -> None:
        """As :meth:`portkit.mailbox.Room.leave_queue`."""
        waiter.armed = None
        for waiting in (right.waiting, self.room):
            try:
                waiting.remove(waiter)
            except ValueError:
                pass

    def _post_now(
        self,
        right: Import,
        envelope: Envelope,
        prepared: Prepared,
        size: int,
        ended: type[InvalidPortError],
    ) -> bool:
        with self._link.lock:
            self._check(right, ended)
            self._link.check_writable()  # before the message counts as sent
            if right.messages < 1 or right.size < size or self._outbox.size > self._outbox_limit:
                return False
            self._link.settle_notes()
            msgid, _, reply_port, _ = envelope
            once = 0
            if type(reply_port) is ReplyPort:
                once = self._link.table.expect(reply_port, right.number)
            try:
                frame, descriptors = encode(
                    self._link, _MESSAGE, right.number, msgid, once, prepared
                )
                right.messages -= 1
                right.size -= size
                self.messages += 1
                self._link.write(frame, right.number, descriptors)
            except BaseException as error:
                self._link.check_in_step(error)
                raise
            return True

    def answer(self, number: int, envelope: Envelope) -> None:
        """Answer the peer's request: there is always room. Nothing where the peer is gone."""
        msgid, packed, reply_port, _ = envelope
        plain = packed if type(packed) is tuple else unadorned(packed)
        if (
            plain is not None
            and len(plain) == 1
            and type(data := plain[0]) is bytes
            and reply_port is None
            and len(data) < self._link.lending.inline
            and len(data) <= self._link.peer_limits.message
        ):
            with self._link.lock:
                if not self._link.is_closed:
                    if self._link.notes:
                        self._link.settle_notes()
                    self.messages += 1
                    make = simple_message if len(data) <= PART_SIZE else long_message
                    frame = make(_REPLY, number, msgid, 0, data)
                    waiter = _thread.current().waiter
                    waiter.sends += 1
                    try:
                        if waiter.sends <= _AT_ONCE:
                            self._link.write(frame)
                        else:
                            self._link.gather(frame, 0, waiter)
                    except BecameInvalidError:
                        pass  # as in write_quietly
            return
        prepared = prepare(self._link, packed, reply_port)
        with self._link.lock:
            if not self._link.is_closed:
                self._link.settle_notes()
                self.messages += 1
                frame, descriptors = encode(self._link, _REPLY, number, msgid, 0, prepared)
                self._link.write_quietly(frame, descriptors)

    def grant(self, export: Export, messages: int, size: int) -> None:
        """Tell the peer that so much was taken."""
        with self._link.lock:
            if self._link.table.exports.get(export.number) is export:
                export.allowance += messages
                export.allowance_size += size
                export.given += messages
                export.given_size += size
                self._link.write_quietly(frames.credit(export.number, messages, size))

    def _check(self, right: Import, ended: type[InvalidPortError]) -> None:
        if self._link.generation != _fork.generation:
            raise InvalidPortError("the port was got before this process was forked: get it anew")
        if not right.is_alive or self._link.is_closed:
            why = self._link.ending
            raise ended(f"the port is gone: {why or 'its owner invalidated it'}")

    def _full(self, what: str) -> SendTimeoutError:
        return SendTimeoutError(
            f"the receiver's queue {what}: raise timeout= or its queue_limit=, or let it keep up"
        )

    def call_when_room(self, right: Import, size: int, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called when there is more room; False where so much is there now."""
        with self._link.lock:
            if not right.is_alive or self._link.is_closed:
                return False
            if not self.has_room:
                if callback not in self.onward:
                    self.onward += (callback,)
                return True
            if right.messages > 0 and right.size >= size:
                return False
            if callback not in right.onward:
                right.onward += (callback,)
            return True

    def take_onward(self) -> tuple[Callable[[], None], ...]:
        """What is to be called now that the outbox has room, or never will; without the lock."""
        with self._link.lock:
            onward, self.onward = self.onward, ()
            return onward
