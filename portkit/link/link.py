"""A link: one connection of two processes, carrying messages for many ports both ways.

It holds what the parts share: the lock, the channel, and the end of it all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING

from portkit import _fork, _tally, _thread
from portkit._report import logger
from portkit.errors import BecameInvalidError, PortError, TransportError
from portkit.link import frames, service, traffic
from portkit.link.channel import Channel
from portkit.link.decoder import Limits
from portkit.link.frames import Kind, LongMessage
from portkit.link.incoming import Incoming
from portkit.link.leaving import Leaving
from portkit.link.lending import Lending
from portkit.link.once import code_of
from portkit.link.outbox import Outbox
from portkit.link.patience import Patience
from portkit.link.reading import Reading
from portkit.link.rights import Export, ImportRef
from portkit.link.sending import Sending
from portkit.link.table import RightsTable
from portkit.message import Sender
from portkit.runloop import DEFAULT_MODE

if TYPE_CHECKING:
    from portkit._wakeup import Waiter
    from portkit.link.node import Node
    from portkit.runloop import RunLoop

_GATHERED = 1 << 16
"""Bytes that a burst may leave unwritten."""
_MOMENT = 0.05
"""Seconds until it is looked again whether the peer has ended."""
_EXPLANATION = 1.0
"""Seconds for another thread to finish reading what the peer said before it went."""
_INTERRUPTED = "writing was interrupted by an exception of a signal handler"


class Link:
    """One connection. Made by a :class:`~portkit.link.node.Node`.

    Args:
        node: this process's side.
        channel: the connection.
        dialled: whether this side made the connection.

    Attributes:
        lock: guards the link; re-entrant, for signal handlers. Never held while another link's is
            taken, nor while anything of a program is called.
        channel: None once the link is closed.
        sender: who is at the other end.
        incarnation: the peer's process; empty before it is known.
        peer_limits: what the peer accepts.
        outbox, sending, incoming, table, lending, reading: the parts.
        notes: what finalizers, which may take no lock, left to be done under it.
        is_counted: what it carried was added to what those that have ended did.
        is_closed: True for ever once the link has ended.
        ending: why it has.
        is_finished: this side writes no more; the peer's end then tells that it has read all.
        write_error: why nothing can be written any more, be there something to read or not.
        was_refused: that was because the peer does not want it, or is not wanted.
    """

    def __init__(self, node: Node, channel: Channel, *, dialled: bool) -> None:
        self.node: Node = node
        self.lock: RLock = RLock()
        self.channel: Channel | None = channel
        self.sender: Sender | None = channel.sender
        self.carries_descriptors: bool = channel.carries_descriptors
        self.incarnation: bytes = b""
        self.peer_limits: Limits = Limits()
        self.is_counted: bool = False
        self.is_closed: bool = False
        self.ending: str = ""
        self.was_refused: bool = False
        self.generation: int = _fork.generation
        self.notes: deque[Callable[[], None]] = deque()
        self.outbox: Outbox = Outbox(channel)
        self.table: RightsTable = RightsTable(self)
        self.lending: Lending = Lending(self, enabled=channel.carries_descriptors)
        self.sending: Sending = Sending(self, self.outbox, node.settings.outbox_limit)
        self.incoming: Incoming = Incoming(self, dialled=dialled)
        self.reading: Reading = Reading(self)
        self._is_keeping = False
        self._leaving = Leaving(self)
        self.is_finished: bool = False
        self.write_error: str = ""  # not the error: its traceback would keep the connection open
        self.service_source: service.ServiceSource = service.ServiceSource(
            channel.fileno(), self._serve
        )
        loop = service.join(self)
        try:
            loop._add(self.service_source, DEFAULT_MODE)
        except BaseException:
            service.leave(self)
            raise
        _tally.links_opened.add()
        if dialled:
            self.outbox.add(frames.record(Kind.HELLO, node.greeting()))

    def read(self) -> None:
        """Read what is there and pass it on. Any thread; nothing where another is at it."""
        self.incoming.read()

    def _serve(self) -> None:
        """On the service thread: the descriptor is ready for what is watched for."""
        if self.outbox.size:
            with self.lock:
                try:
                    self.flush()
                except BecameInvalidError:
                    return
        if self.service_source.is_reader:
            home = self.reading.waiting_home
            self.incoming.read()
            if home is not None:
                self.reading.give_back(home)

    # Writing. Under the lock.

    def write(
        self, frame: bytes | LongMessage, target: int = 0, descriptors: Sequence[int] = ()
    ) -> None:
        """Write a frame, or keep what does not go in now.

        Raises:
            BecameInvalidError: the connection is lost.
        """
        self.check_writable()
        if self._is_keeping:
            self.outbox.add(frame, target, descriptors)
            return
        try:
            self.outbox.write(frame, target, descriptors)
        except OSError as error:
            raise self._cannot_write(error) from error
        except BaseException:
            # Perhaps between writing and noting how much was written: the stream is out of step.
            self.close_later(_INTERRUPTED)
            raise
        if self.outbox.size:
            self.service_source.watch_writing(wanted=True)
            self._check_unread()

    def _check_unread(self) -> None:
        most = self.node.settings.unread_limit
        if self.outbox.size <= most:
            return
        reason = self.write_error = f"the peer leaves over {most} bytes unread that are for it"
        logger.warning("%r is closed: %s", self, reason)
        self.outbox.close()
        self.close_later(reason)
        raise BecameInvalidError(f"the connection was lost: {reason}")

    def check_in_step(self, error: BaseException) -> None:
        """Close, where a signal handler raised between what has to be done together."""
        if not isinstance(error, Exception):
            self.close_later(_INTERRUPTED)

    def gather(self, frame: bytes | LongMessage, target: int, waiter: Waiter) -> None:
        """Keep a frame of a burst for a moment, to write many of them at once.

        Raises:
            BecameInvalidError: the connection is lost.
        """
        self.check_writable()
        self.outbox.add(frame, target)
        if self.service_source.is_writer:
            self._check_unread()
            return  # it is full, and written as it empties
        if self.outbox.size >= _GATHERED:
            self.flush()
        else:
            if self not in waiter.unflushed:
                waiter.unflushed.append(self)
            service.flush_soon(self)  # each time: the thread may not wait for long, and send on

    def flush_gathered(self) -> bool:
        """Write what was gathered, and what finalizers noted; False where there was nothing."""
        with self.lock:
            if self.is_closed:
                return False
            noted = bool(self.notes)
            self.settle_notes()
            if not self.outbox.size or self.service_source.is_writer:
                return noted
            try:
                self.flush()
            except BecameInvalidError:
                return False
            return True

    def write_quietly(self, frame: bytes, descriptors: Sequence[int] = (), target: int = 0) -> None:
        """Write what nobody waits for: that the connection is lost is told in another way."""
        try:
            self.write(frame, target, descriptors)
        except BecameInvalidError:
            pass

    def flush(self) -> None:
        """Write what is kept, as much as goes in now.

        Raises:
            BecameInvalidError: the connection is lost.
        """
        self.check_writable()
        try:
            done = self.outbox.flush()
        except OSError as error:
            raise self._cannot_write(error) from error
        except BaseException:
            self.close_later(_INTERRUPTED)
            raise
        self.service_source.watch_writing(wanted=not done)
        if self.sending.room and self.sending.has_room:
            for waiter in list(self.sending.room):
                waiter.ring()
        if self.sending.onward and self.sending.has_room:
            service.call(self._relay_on)  # which takes other links' locks

    def _relay_on(self) -> None:
        for callback in self.sending.take_onward():
            callback()

    def check_writable(self) -> None:
        """Raise where nothing can be written any more.

        Raises:
            BecameInvalidError: the connection is lost.
        """
        if self.write_error or self.is_closed or self.is_finished:
            raise BecameInvalidError(f"the connection was lost: {self.write_error or 'closed'}")

    def _cannot_write(self, error: OSError) -> BecameInvalidError:
        # What the peer wrote before it went can still be read, and is: see _read_to_end.
        self.write_error = error.strerror or str(error) or repr(error)
        self.outbox.close()
        service.call(self._read_to_end)
        return BecameInvalidError(f"the connection was lost: {self.write_error}")

    def explained(self, error: BecameInvalidError) -> BecameInvalidError:
        """The error of a send, with what the peer said before it went. Without the lock."""
        if self.write_error and not self.is_closed:
            self.incoming.read(wait=_EXPLANATION)
        return BecameInvalidError(f"the port is gone: {self.ending}") if self.ending else error

    def _read_to_end(self) -> None:
        """On the service thread: read as long as something comes, then close."""
        self.reading.read_all()
        self.close(f"the connection was lost: {self.write_error}")

    def linger(self, patience: Patience) -> None:
        """At the process's end: write what is left, while the peer takes some of it."""
        while self.outbox.size and (channel := self.channel) is not None:
            service.wait_writable(channel.fileno(), patience.left)
            before = self.outbox.size
            with self.lock:
                self.flush()
            if self.outbox.size < before:
                patience.renew()
            if not patience.lasts:
                break
        if self.outbox.size:
            logger.warning("%r: the process ends, and %d bytes are lost", self, self.outbox.size)

    def await_end(self, patience: Patience) -> None:
        """At the process's end: read until the peer has ended too, while it takes what was written.

        If the kernel still had to answer it after this process, what is on its way would be lost.
        """
        acknowledged: int | None = None
        while (channel := self.channel) is not None and patience.lasts:
            before, acknowledged = acknowledged, channel.acknowledged()
            if acknowledged != before:
                patience.renew()
            service.wait_readable(channel.fileno(), min(_MOMENT, patience.left))
            self.incoming.read(wait=patience.left)

    # Notes, by finalizers: no lock is taken.

    def note_release(self, ref: ImportRef) -> None:
        """The last handle to an imported right is gone."""
        self._note(lambda: self.table.release(ref))

    def note_end(self, export: Export) -> None:
        """An exported port was dropped by everybody who could receive at it."""
        self._note(lambda: self.table.withdraw(export))

    def note_failure(self, number: int, error: PortError) -> None:
        """A request of the peer's will not be answered."""
        self._note(lambda: self._fail(number, error))

    def _fail(self, number: int, error: PortError) -> None:
        self.write_quietly(frames.failed(number, code_of(error), str(error)))

    def note_given_up(self, number: int, target: int, otherwise: RunLoop | None = None) -> None:
        """A request to the peer is waited for no more; as :data:`portkit._answer.Holder`."""
        self._note(lambda: self.table.give_up(number, target))

    def note_return(self, segment_id: int) -> None:
        """The last view of a segment of the peer's is gone."""
        self._note(lambda: self.write_quietly(frames.segment_return(segment_id)))

    def _note(self, note: Callable[[], None]) -> None:
        if self.is_closed or self.generation != _fork.generation:
            return
        self.notes.append(note)
        # Before this thread waits, as with a burst of sends: it need not wake another.
        waiter = _thread.present_waiter()
        if waiter is not None and self not in waiter.unflushed:
            waiter.unflushed.append(self)
        service.flush_soon(self)

    def settle_notes(self) -> None:
        """Do what finalizers left to be done. Under the lock.

        What that writes is kept for the write that follows, or for :meth:`flush_gathered`.
        """
        self._is_keeping = True
        try:
            while self.notes:
                try:
                    note = self.notes.popleft()
                except IndexError:
                    return
                if not self.is_closed:
                    note()
        finally:
            self._is_keeping = False

    # Endings.

    def refuse(self, error: PortError) -> None:
        """Close because of what the peer is or did; ungreeted, it gets the reason."""
        # As text: whoever keeps the log's records would keep the frames of the error's traceback,
        # and so the connection.
        logger.warning("%r is closed: %s", self, str(error))
        _tally.links_refused.add()
        if not self.incoming.greeted:
            self.was_refused = type(error) is not TransportError  # which says that it was silent
            with self.lock:
                self.write_quietly(frames.refusal(str(error)))
        self.close(str(error))

    def check_needed(self) -> None:
        """A right has ended: end the link as well, if nothing is left for it to carry."""
        if not self.node.keeps() and self.table.is_empty:
            self._leaving.begin()

    def finish(self) -> bool:
        """End the direction to the peer; whether its end is to be waited for."""
        with self.lock:
            if self.channel is not None and not self.is_finished:
                self.is_finished = self.channel.finish()
            return self.is_finished

    def close_later(self, reason: str) -> None:
        """Close from where that would be in the way; the service thread does it."""
        service.call(lambda: self.close(reason))

    def close(self, reason: str = "this side closed it") -> None:
        """End the link and every right on it. Any thread; idempotent; nothing in a fork."""
        if self.generation != _fork.generation:
            return
        with self.lock:
            if self.is_closed:
                return
            self.ending = reason  # first: who sees that it is closed asks why, without the lock
            self.is_closed = True
            channel, self.channel = self.channel, None
            self.outbox.close()
            self.notes.clear()
        _tally.links_closed.add()
        traffic.link_ended(self)
        self.service_source.invalidate()
        self.reading.close()
        if channel is not None:
            channel.shutdown()
        self.table.close(
            BecameInvalidError(f"the link to {self.sender or 'the peer'} ended: {reason}")
        )
        for waiter in list(self.sending.room):
            waiter.ring()
        self._relay_on()  # to find the end: who asked is to know
        self.incoming.close()
        self.lending.close()
        self.node.closed(self)
        service.leave(self)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open" if self.incoming.greeted else "new"
        return f"<Link {state} with {self.sender or 'a peer'}>"
