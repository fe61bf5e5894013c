"""The rights of a link, both ways: made when a port is sent, ended with the port or by release.

What changes the tables does so under the link's lock.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from portkit._text import printable
from portkit.errors import BecameInvalidError, ProtocolError
from portkit.link import frames, service
from portkit.link.flow import FIRST_WINDOW, WINDOW
from portkit.link.frames import Entry, Frame, Part
from portkit.link.once import RemoteAnswer, error_of
from portkit.link.remote_port import Reached, RemotePort
from portkit.link.rights import Export, Import, ImportRef
from portkit.link.transfer import dead_port
from portkit.local_port import LocalPort
from portkit.port import Port, ReplyPort

if TYPE_CHECKING:
    from portkit.link.link import Link

OPENED = 1 << 63
"""The bit of a right's number that the dialling side chose; without it, the port's side did."""
ATTEMPTS = 1 << 20
"""The numbers with which a dialling side may open a port again that it lost the connection to; the
bits above them say that it is the same right, unless they are 0."""


class RightsTable:
    """What of each other's ports the two sides of a link may send to.

    Args:
        link: whose table it is.

    Attributes:
        exports: the peer's rights to ports of this side, by number.
        asked: requests of the peer's that are not settled, by number.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.exports: dict[int, Export] = {}
        self._relayed: dict[Reached, Export] = {}
        self._opened: Counter[bytes] = Counter()
        self._imports: dict[int, ImportRef] = {}
        self._leaving: dict[int, ImportRef] = {}
        self._once: dict[int, ReplyPort] = {}
        self.asked: dict[int, RemoteAnswer] = {}
        self._export_numbers = count(1)
        self._once_numbers = count(1)
        self._opened_numbers = count(OPENED)
        self._last_export = 0
        self._last_once = 0
        self._last_asked = 0
        self._last_opened = OPENED - 1

    def expect(self, reply_port: ReplyPort, target: int = 0) -> int:
        """Record a send-once right that goes to the peer; its number.

        Args:
            reply_port: the right.
            target: of the message that it is to answer, where it answers one.

        Raises:
            BecameInvalidError: the link has ended, so nobody would take the right back.
        """
        if self._link.is_closed:
            self._link.check_writable()
        number = self._last_once = next(self._once_numbers)
        self._once[number] = reply_port
        answer = reply_port._answer
        answer.holder = (self._link.note_given_up, number, target)
        if answer.done and answer.abandoned:
            self._link.note_given_up(number, target)
        return number

    def export(self, port: Port) -> Entry:
        """Record that the peer gets a right to the port; what stands for it in a message."""
        found: Export | None = None
        if isinstance(port, LocalPort):
            for sender in port._senders:
                if (
                    isinstance(sender, Export)
                    and self.exports.get(sender.number) is sender  # not one just released
                    and not sender.port_id
                ):
                    found = sender
        elif isinstance(port, RemotePort):
            found = self._relayed.get(port._reach())
        if found is not None:
            found.hand_out()
            return Entry(Part.MINE, 0, found.number, 0)
        if isinstance(port, RemotePort):
            port = port.another()  # the peer's right does not end with the handle that was sent
        number = next(self._export_numbers)
        export = Export(self._link, number, port)
        if not port._add_sender(export):  # type: ignore[attr-defined]
            return Entry(Part.DEAD, 0, 0, 0)
        self._last_export = number
        self.exports[number] = export
        if isinstance(port, RemotePort):
            self._relayed[port._reach()] = export
        export.hand_out()
        return Entry(Part.MINE, export.window, number, WINDOW)

    def import_right(self, number: int, messages: int, size: int) -> RemotePort:
        """A handle to a port of the peer's that came in a message."""
        if not number or number & OPENED:
            raise ProtocolError(f"{number} is no number of the peer's for a port")
        with self._link.lock:
            ref = self._imports.get(number)
            right = None if ref is None else ref()
            if right is None:
                if ref is not None:
                    self._leaving[id(ref)] = ref  # so that it lives to tell of its right's end
                right = Import(self._link, number, messages, size)
                self._imports[number] = ImportRef(right, self._link.note_release)
            elif ref is not None:
                ref.received += 1
            return RemotePort(right)

    def exported(self, number: int) -> Port:
        """The port of this side that the peer sent home."""
        export = self.exports.get(number)
        if export is not None and (port := export.port) is not None:
            return port.another() if isinstance(port, RemotePort) else port
        self.check_handed_out(number)
        return dead_port()

    def reply_port(self, number: int) -> ReplyPort:
        """The right to answer a request of the peer's."""
        if not number:
            raise ProtocolError("0 is no number of a send-once right")
        return ReplyPort(RemoteAnswer(self._link, number))

    def ask(self, number: int, answer: RemoteAnswer) -> None:
        """Record a request of the peer's."""
        self.asked[number] = answer
        if number > self._last_asked:  # noqa: PLR1730 - twice as fast
            self._last_asked = number

    def open(self, port_id: bytes, incarnation: bytes, number: int | None = None) -> Import:
        """A right to a port of the peer's that is known by its address.

        Args:
            port_id: of the port.
            incarnation: of the process.
            number: of the right, where it was open on another link before: see ``ATTEMPTS``.
        """
        with self._link.lock:
            self._link.check_writable()
            if number is None:
                number = next(self._opened_numbers)
            right = Import(self._link, number, 1, FIRST_WINDOW)
            right.is_confirmed = False
            self._imports[number] = ImportRef(right, self._link.note_release)
            self._link.outbox.add(frames.open_right(number, port_id, incarnation))
            self._link.flush()
            return right

    @property
    def imports(self) -> int:
        """How many rights this side has to ports of the peer's."""
        return len(self._imports)

    @property
    def requests_sent(self) -> int:
        """How many requests this side has made, and rights to answer once it has handed out."""
        return self._last_once

    @property
    def requests_received(self) -> int:
        """The same of the peer, by the numbers that it gave them."""
        return self._last_asked

    @property
    def requests_open(self) -> int:
        """How many of this side's the peer has not settled."""
        return len(self._once)

    @property
    def is_empty(self) -> bool:
        """Whether neither side has a right of the other's, nor waits for its answer."""
        return not (self.exports or self._imports or self._once)

    def withdraw(self, export: Export) -> None:
        """The port has ended: the peer is to know, and its right is no more."""
        with self._link.lock:
            if self.exports.pop(export.number, None) is None:
                return
            self._forget(export)
            export.end()
            self._link.write_quietly(frames.dead(export.number))
        self._link.check_needed()

    def grant_all(self) -> None:
        """Tell the peer of all that was taken, be it less than half a window."""
        for export in list(self.exports.values()):
            export.grant()

    def unsettle_exports(self) -> None:
        """Find out anew which run loops serve the ports of this link."""
        for export in list(self.exports.values()):
            export.settled = False

    def release(self, ref: ImportRef) -> None:
        """The last handle to an imported right is gone: the peer is to know."""
        self._leaving.pop(id(ref), None)
        if self._imports.get(ref.number) is ref:
            del self._imports[ref.number]
        # Not before the last message by the right, of which perhaps only parts are written.
        self._link.write_quietly(frames.release(ref.number, ref.received), target=ref.number)
        self._link.check_needed()

    def _forget(self, export: Export) -> None:
        if export.port_id:
            self._opened[export.port_id] -= 1
            if not self._opened[export.port_id]:
                del self._opened[export.port_id]
            return
        for right, relayed in list(self._relayed.items()):
            if relayed is export:
                del self._relayed[right]

    def check_handed_out(self, number: int) -> None:
        """What was a right of the peer's may be one no more, but a number out of the air never was.

        Raises:
            ProtocolError: that is what it is.
        """
        if not number or number > (self._last_opened if number & OPENED else self._last_export):
            raise ProtocolError(f"the right {number} was never handed out")

    # What the peer says.

    def on_open(self, frame: Frame) -> None:
        """OPEN: the peer wants to send to a port that it knows by its address."""
        number = frame.a
        if number <= self._last_opened:
            raise ProtocolError(f"{number} is no new number of the peer's for a right")
        self._last_opened = number
        settings = self._link.node.settings
        if len(self.exports) >= settings.max_rights:
            raise ProtocolError(f"the peer opens more than {settings.max_rights} rights")
        most = settings.max_rights_per_port  # each has a window of its own in the port's queue
        if self._opened[frame.body[:16]] >= most:
            raise ProtocolError(f"the peer opens a port more than {most} times")
        port = self._link.node.find(frame.body[:16], frame.body[16:])
        with self._link.lock:
            if port is not None:
                export = Export(self._link, number, port)
                export.port_id = frame.body[:16]
                if port._add_sender(export):
                    export.hand_out()
                    self.exports[number] = export
                    self._opened[export.port_id] += 1
                    self._link.write_quietly(
                        frames.credit(number, export.window - 1, WINDOW - FIRST_WINDOW)
                    )
                else:
                    port = None
            if port is None:
                self._link.write_quietly(frames.dead(number))
        if number - OPENED >= ATTEMPTS and number % ATTEMPTS:  # not the first of its numbers
            self._link.node.opened_again(self._link, number)

    def end_earlier(self, number: int) -> None:
        """The peer has opened a right again on another link: nothing comes by this one any more."""
        for export in list(self.exports.values()):
            if export.number < number and export.number // ATTEMPTS == number // ATTEMPTS:
                with self._link.lock:
                    if self.exports.pop(export.number, None) is None:
                        continue
                    self._forget(export)
                    self._link.write_quietly(frames.dead(export.number))
                self._drop(export)

    def on_credit(self, frame: Frame) -> None:
        """CREDIT: there is more room at a port of the peer's."""
        with self._link.lock:
            ref = self._imports.get(frame.a)
            right = None if ref is None else ref()
            if right is None:
                return
            if not right.is_confirmed:
                right.is_confirmed = True
                right.window += frame.b  # the rest of it
            right.messages += frame.b
            right.granted += frame.b  # last: without the lock never too many seem sent
            right.size += frame.c
            waiting, onward = list(right.waiting), right.onward
            right.onward = ()
        for waiter in waiting:
            waiter.ring()
        for callback in onward:
            callback()

    def on_release(self, frame: Frame) -> None:
        """RELEASE: the peer has let go of a right."""
        with self._link.lock:
            export = self.exports.get(frame.a)
            if export is None:
                self.check_handed_out(frame.a)
                return
            if not 0 < frame.b <= export.handed:
                raise ProtocolError(f"right {frame.a} was released more often than handed out")
            if frame.b < export.handed:
                # A copy was on its way when the peer let go of the others: it begins anew.
                self._link.write_quietly(frames.credit(frame.a, *export.take_back(frame.b)))
                return
            export.handed = 0
            del self.exports[frame.a]
            self._forget(export)
        self._drop(export)

    def _drop(self, export: Export) -> None:
        port = export.port
        export.end()
        if port is not None:
            port._drop_sender(export, service.loop())  # type: ignore[attr-defined]
        self._link.check_needed()

    def on_dead(self, frame: Frame) -> None:
        """DEAD: a port of the peer's has ended."""
        with self._link.lock:
            ref = self._imports.pop(frame.a, None)
        right = None if ref is None else ref()
        if right is not None:
            right.end()
        self._link.check_needed()

    def claim_once(self, number: int) -> ReplyPort | None:
        """The request of this side that the peer settles; None where nobody waits any more.

        Raises:
            ProtocolError: there never was such a request.
        """
        reply_port = self._once.pop(number, None)
        if not (self._once or self._imports):
            self._link.check_needed()
        if reply_port is None and not 0 < number <= self._last_once:
            raise ProtocolError(f"the send-once right {number} was never handed out")
        return reply_port

    def on_failed(self, frame: Frame) -> None:
        """A request of this side will not be answered."""
        reply_port = self.claim_once(frame.a)
        if reply_port is not None:
            reply_port.fail(error_of(frame.flags, printable(frame.body)))

    def give_up(self, number: int, target: int) -> None:
        """A request of this side is waited for no more: the peer is to know. Under the lock."""
        if self._once.pop(number, None) is None:
            return  # answered meanwhile
        # Not before the request, of which perhaps only parts are written.
        self._link.write_quietly(frames.give_up(number), target=target)
        self._link.check_needed()

    def on_give_up(self, frame: Frame) -> None:
        """GIVE_UP: the peer waits no more for the answer to a request."""
        answer = self.asked.pop(frame.a, None)
        if answer is not None:
            answer.abandon()
        elif not 0 < frame.a <= self._last_asked:
            raise ProtocolError(f"the request {frame.a} that is given up was never made")

    def close(self, reason: BecameInvalidError) -> None:
        """The link has ended: everything ends with it. Without the lock."""
        with self._link.lock:
            once, self._once = self._once, {}
            refs, self._imports = list(self._imports.values()), {}
            self._leaving.clear()
            exports = list(self.exports.values())
            self.exports.clear()
            self._relayed.clear()
            asked, self.asked = self.asked, {}
        for reply_port in once.values():
            reply_port.fail(reason)
        for answer in asked.values():
            answer.abandon()
        for ref in refs:
            right = ref()
            if right is not None:
                right.end()
        for export in exports:
            self._drop(export)
