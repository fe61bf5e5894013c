"""Reading a link: bytes from the channel, frames from the decoder, messages into their queues.

Whoever reads calls :meth:`Incoming.read`. It runs no callback of a program: mailboxes are filled,
waiting threads are rung, handlers are left to run loops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from portkit._report import logger, report
from portkit._text import printable
from portkit.errors import BecameInvalidError, InvalidPortError, PortError, ProtocolError
from portkit.link import frames, greeting, service
from portkit.link.channel import MOST_DESCRIPTORS, Channel
from portkit.link.decoder import Decoder
from portkit.link.frames import Entry, Frame, Kind
from portkit.link.once import RemoteAnswer
from portkit.link.transfer import resolve
from portkit.message import Envelope, Packed, Sender
from portkit.port import Port, ReplyPort

if TYPE_CHECKING:
    from portkit.link.link import Link
    from portkit.link.rights import Export

PEER_ENDED = "the peer has ended"
"""The reason of an end that was in order."""
_NONE = -1
"""The number of no right."""
_MESSAGE = int(Kind.MESSAGE)
_REPLY = int(Kind.REPLY)
_FIRST = (Kind.HELLO, Kind.WELCOME, Kind.REFUSED, Kind.AUTH)
_SCRATCH_SIZE = 1 << 17
_READS = 16
"""How often a link is read in a row before others have their turn."""

_scratches: list[memoryview] = []
"""Buffers to read into. A link at rest has none: there are as many as threads read at once."""


class Incoming:
    """The receiving half of a link.

    Args:
        link: the link.
        dialled: whether this side made the connection, and so is the one to be welcomed.

    Attributes:
        greeted: whether the handshake is over.
        bytes_read, messages: so far.
    """

    __slots__ = (
        "_busy",
        "_decoder",
        "_descriptor_limit",
        "_dialled",
        "_exports",
        "_link",
        "_pinged",
        "_run",
        "_run_export",
        "_run_target",
        "bytes_read",
        "greeted",
        "messages",
    )

    def __init__(self, link: Link, *, dialled: bool) -> None:
        limits = link.node.settings.limits
        self._link = link
        self._exports = link.table.exports
        self._dialled = dialled
        self._decoder = Decoder(self, limits)
        # Those of one reading may come before the frames that count them.
        self._descriptor_limit = limits.descriptors + MOST_DESCRIPTORS
        self._busy = Lock()
        self._pinged = 0
        self._run: list[Envelope] = []
        self._run_export: Export | None = None
        self._run_target = _NONE
        self.greeted: bool = False
        self.bytes_read: int = 0
        self.messages: int = 0

    def read(self, wait: float = 0.0) -> None:
        """Read what is there and pass it on. Nothing where another thread is at it.

        Args:
            wait: seconds to wait for that thread.
        """
        if not self._busy.acquire(timeout=wait):
            return
        link = self._link
        try:
            channel = link.channel
            if channel is not None:
                link.reading.reads += 1
                self._read(channel)
        except PortError as error:
            link.refuse(error)
        except Exception as error:
            report("a link is closed: reading it failed", error, link)
            link.close(f"reading failed: {error!r}")
        except BaseException:
            link.close_later("reading was interrupted by an exception of a signal handler")
            raise
        finally:
            self._busy.release()

    def _read(self, channel: Channel) -> None:
        decoder = self._decoder
        scratch = _scratches.pop() if _scratches else memoryview(bytearray(_SCRATCH_SIZE))
        try:
            for _ in range(_READS):
                buffer = decoder.buffer(scratch)
                try:
                    size, descriptors = channel.read(buffer)
                except BlockingIOError:
                    return
                except OSError as error:
                    self._link.close(f"the connection was lost: {error.strerror or error}")
                    return
                self.bytes_read += size
                if descriptors:
                    self._keep(descriptors)
                if not size:
                    whole = decoder.is_between_frames
                    self._link.close(PEER_ENDED if whole else "it broke off in mid-frame")
                    return
                try:
                    decoder.received(scratch, size)
                except ProtocolError:
                    self._pass_run()  # what came before was whole
                    raise
                self._pass_run()
                if size < len(buffer) and not channel.has_unread:
                    return
            if channel.has_unread:  # of which the descriptor will not tell
                service.call(self.read)
        finally:
            _scratches.append(scratch)

    def _keep(self, descriptors: Sequence[int]) -> None:
        pending = self._decoder.descriptors
        pending.extend(descriptors)
        if len(pending) > self._descriptor_limit:
            raise ProtocolError(f"{len(pending)} descriptors came without frames that count them")
        if self._link.is_closed:  # perhaps after close() had looked
            self.close()

    def claim_descriptor(self) -> int:
        """The next of the descriptors that came along."""
        try:
            return self._decoder.descriptors.popleft()
        except IndexError:
            raise ProtocolError("a frame counts on a descriptor that did not come") from None

    def close(self) -> None:
        """The link has ended: close the descriptors that nobody claimed."""
        while self._decoder.descriptors:
            os.close(self._decoder.descriptors.popleft())

    # Messages.

    def on_simple(self, kind: int, msgid: int, target: int, once: int, data: bytes) -> None:
        """A message of one piece of data came; see :class:`portkit.link.decoder.Sink`.

        Those that come together for one port are put into its queue together.
        """
        reply_port = ReplyPort(RemoteAnswer(self._link, once)) if once else None
        if target == self._run_target and kind == _MESSAGE:
            self._run.append((msgid, (data,), reply_port, self._run_export))
            return
        if not self.greeted:
            raise ProtocolError("a message came before the greeting")
        self._pass_run()
        if kind == _REPLY:
            self._on_reply(target, (msgid, (data,), reply_port, self))
            return
        export = self._exports.get(target)
        if export is None:
            self._on_stray(target, reply_port)
            return
        self._run_target = target
        self._run_export = export
        self._run.append((msgid, (data,), reply_port, export))

    def on_message(  # noqa: PLR0917 - the fields of a frame, in their order
        self,
        kind: int,
        flags: int,
        msgid: int,
        target: int,
        once: int,
        parts: list[bytes | Entry],
    ) -> None:
        """Any other message, or answer, came; see :class:`portkit.link.decoder.Sink`."""
        if not self.greeted:
            raise ProtocolError("a message came before the greeting")
        self._pass_run()
        packed, reply_port = resolve(self._link, parts, flags)
        if once:
            reply_port = ReplyPort(RemoteAnswer(self._link, once))
        if kind == _REPLY:
            self._on_reply(target, (msgid, packed, reply_port, self))
            return
        export = self._exports.get(target)
        if export is None:
            self._on_stray(target, reply_port)
            return
        self._run_export = export
        self._run.append((msgid, packed, reply_port, export))

    def _pass_run(self) -> None:
        """Put the messages that came for one port into its queue."""
        export = self._run_export
        if export is None:
            return
        run, self._run, self._run_export, self._run_target = self._run, [], None, _NONE
        self.messages += len(run)
        try:
            export.receive(run)
        except InvalidPortError:
            for envelope in run:
                _refuse(envelope[2])

    def _on_stray(self, target: int, reply_port: Port | None) -> None:
        self._link.table.check_handed_out(target)
        _refuse(reply_port)

    def _on_reply(self, number: int, envelope: Envelope) -> None:
        self.messages += 1
        reply_port = self._link.table.claim_once(number)
        if reply_port is not None:
            try:
                reply_port._post(envelope, 0)
            except (PortError, TypeError) as error:
                logger.warning("an answer could not be passed on: %s", error)
                reply_port._drop()

    @property
    def sender(self) -> Sender | None:
        """As the origin of answers: who gave them."""
        return self._link.sender

    def taken(self, packed: Packed) -> None:
        """As the origin of answers, for which room need not be granted."""

    # All other frames.

    def on_frame(self, frame: Frame) -> None:
        """A frame came that is no message; see :class:`portkit.link.decoder.Sink`."""
        if not self.greeted and frame.kind not in _FIRST:
            raise ProtocolError(f"a {frame.kind.name} frame came before the greeting")
        self._pass_run()
        _HANDLERS[frame.kind](self, frame)

    def _on_hello(self, frame: Frame) -> None:
        if self.greeted or self._dialled:
            raise ProtocolError("a greeting came that was not due")
        link = self._link
        peer = greeting.read(frame.body)
        link.node.check_peer(link)
        with link.lock:
            self._greet(peer)
            link.write_quietly(frames.record(Kind.WELCOME, link.node.greeting()))

    def _on_welcome(self, frame: Frame) -> None:
        if self.greeted or not self._dialled:
            raise ProtocolError("a welcome came that was not due")
        self._greet(greeting.read(frame.body))

    def _greet(self, peer: greeting.Greeting) -> None:
        self.greeted = self._decoder.greeted = True
        self._link.peer_limits = peer.limits
        self._link.outbox.most_parts = peer.limits.parts
        self._link.incarnation = bytes.fromhex(peer.incarnation)
        self._link.lending.greeted()
        self._link.node.greeted(self._link)

    def _on_refused(self, frame: Frame) -> None:
        if self.greeted or not self._dialled:
            raise ProtocolError("a refusal came that was not due")
        self._link.was_refused = True
        self._link.close(f"the peer refused it: {printable(frame.body)}")

    def _on_auth(self, frame: Frame) -> None:
        # Where a key is asked for, the transport has taken these frames before there is a link.
        raise ProtocolError(
            "the peer wants to prove a pre-shared key, which this side does not ask for: give key= "
            "on both sides, or on none"
        )

    def _on_ping(self, frame: Frame) -> None:
        reads = self._link.reading.reads
        if self._pinged != reads:  # once for all that came together: it is as long as the table
            self._pinged = reads
            self._link.table.grant_all()
        with self._link.lock:
            if not self._link.outbox.size:  # else it hears from here anyway, once it reads
                self._link.write_quietly(frames.pong())

    def _on_pong(self, frame: Frame) -> None:
        """Hearing it was all that was wanted."""


def _refuse(reply_port: Port | None) -> None:
    """The port of a message has ended; whoever asked there is to know."""
    if type(reply_port) is ReplyPort:
        reply_port.fail(BecameInvalidError("the port ended before the request reached it"))


_HANDLERS: dict[Kind, Callable[[Incoming, Frame], None]] = {
    Kind.HELLO: Incoming._on_hello,
    Kind.WELCOME: Incoming._on_welcome,
    Kind.REFUSED: Incoming._on_refused,
    Kind.AUTH: Incoming._on_auth,
    Kind.PING: Incoming._on_ping,
    Kind.PONG: Incoming._on_pong,
    Kind.OPEN: lambda self, frame: self._link.table.on_open(frame),
    Kind.CREDIT: lambda self, frame: self._link.table.on_credit(frame),
    Kind.RELEASE: lambda self, frame: self._link.table.on_release(frame),
    Kind.DEAD: lambda self, frame: self._link.table.on_dead(frame),
    Kind.FAILED: lambda self, frame: self._link.table.on_failed(frame),
    Kind.GIVE_UP: lambda self, frame: self._link.table.on_give_up(frame),
    Kind.SEGMENT: lambda self, frame: self._link.lending.on_segment(frame),
    Kind.RETURN: lambda self, frame: self._link.lending.on_return(frame),
    Kind.FORGET: lambda self, frame: self._link.lending.on_forget(frame),
}
