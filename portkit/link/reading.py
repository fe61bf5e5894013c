"""Who reads a link: at most one thread at a time, and as a rule the one that waits for it.

The role belongs to a thread that blocks until something comes by the link; else to the run loop
that serves the ports of this link; else, after a moment, to the service thread, which also stands
in for a loop that is in a long callback or does not run. A caller takes the role from a loop, and
gives it back; further callers sleep until the reader wakes them, with what they wait for or with
the role. Reading fills mailboxes and never runs a callback.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from portkit._wakeup import LONGEST_SLEEP, Waiter
from portkit.errors import LoopEndedError
from portkit.link import service
from portkit.link.mode_guard import guard
from portkit.runloop.poller import READ
from portkit.runloop.pump import PumpSource

if TYPE_CHECKING:
    from portkit.link.link import Link
    from portkit.link.rights import Export
    from portkit.local_port import LocalPort
    from portkit.runloop.loop import RunLoop

_OTHERS_TURN = 1.0
"""Seconds for another thread to be done with reading, which takes it milliseconds."""


class Reading:
    """The reader's role of one link. Everything here is guarded by the link's lock.

    Args:
        link: what is read.

    Attributes:
        reads: how often the link was read; the service thread sees by it that somebody does.
    """

    __slots__ = (
        "_callers",
        "_home",
        "_link",
        "_loop",
        "_onlookers",
        "_reader",
        "_shared",
        "_temporary",
        "reads",
    )

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reader: Waiter | PumpSource | None = None
        self._callers: deque[Waiter] = deque()
        self._loop: RunLoop | None = None
        self._home: PumpSource | None = None
        self._temporary: PumpSource | None = None
        self._shared = False
        self._onlookers = 0
        self.reads: int = 0

    # A thread that waits: see portkit._wakeup.Reader.

    def sleep(self, waiter: Waiter, timeout: float | None) -> None:
        """Sleep until a ring, or until something came by the link, which is read."""
        link = self._link
        channel = link.channel
        if channel is None or not (self._reader is waiter or self._take(waiter)):
            waiter.sleep(timeout)
            return
        fd = channel.fileno()
        waiter.flush()
        waiter.asleep = True
        try:
            ready = waiter.poll_with(fd).poll(
                None if timeout is None else min(timeout, LONGEST_SLEEP) * 1000.0
            )
        finally:
            waiter.asleep = False
        for found, _ in ready:
            if found != fd:
                waiter.drain()
            else:
                waiter.armed = None  # awake, and about to look: nobody need ring
                # To come back at once where another thread reads would keep that from being done.
                link.incoming.read(
                    wait=_OTHERS_TURN if timeout is None else min(timeout, _OTHERS_TURN)
                )

    def leave(self, waiter: Waiter) -> None:
        """The wait is over: pass the role on, if this thread had it."""
        with self._link.lock:
            if self._reader is waiter:
                self._pass_on()
            elif self._callers:
                try:
                    self._callers.remove(waiter)
                except ValueError:
                    pass

    def _take(self, waiter: Waiter) -> bool:
        link = self._link
        with link.lock:
            reader = self._reader
            if isinstance(reader, Waiter):
                if reader is waiter:
                    return True
                if waiter not in self._callers:
                    self._callers.append(waiter)
                return False
            # A loop of this very thread does not look while the thread waits here: it may watch on,
            # until another one reads.
            if reader is not None and (reader is link.service_source or not reader.is_of(waiter)):
                reader.watch(0)
            self._reader = waiter
            return True

    def _pass_on(self, *, at_once: bool = False) -> None:
        """To the caller that has waited longest, else the loop, else nobody for a moment."""
        if self._link.is_closed:
            self._reader = None
        elif self._callers:
            self._unwatch_all_but(None)
            self._reader = self._callers.popleft()
            self._reader.ring()
        elif (source := self._temporary or self._home) is not None:
            self._hand_to(source)
        else:
            self._reader = None
            if self._shared or self._onlookers or at_once:
                self._adopt()
            else:
                service.look_after(self)

    def read_all(self) -> None:
        """Read as long as something comes; the reader stays who it was. Without the lock.

        A thread that reads just now is waited for: what it has read may be the reason of an end.
        """
        link = self._link
        before = -1
        while not link.is_closed and before != link.incoming.bytes_read:
            before = link.incoming.bytes_read
            link.incoming.read(wait=_OTHERS_TURN)

    # The service thread.

    def adopt(self) -> None:
        """Have the service thread read, if nobody does."""
        with self._link.lock:
            if self._reader is None and not self._link.is_closed:
                self._adopt()

    def add_onlooker(self) -> None:
        """Somebody waits who is no thread: the service thread reads whenever no other one does."""
        with self._link.lock:
            self._onlookers += 1
        self.adopt()

    def remove_onlooker(self) -> None:
        """He waits no more."""
        with self._link.lock:
            self._onlookers -= 1

    def _adopt(self) -> None:
        source = self._link.service_source
        self._reader = source
        source.watch(READ)

    def look_after(self) -> None:
        """On the service thread: read, unless a thread waits at the link or its loop does."""
        with self._link.lock:
            reader = self._reader
            if self._link.is_closed or isinstance(reader, Waiter):
                return
            if reader is None:
                self._adopt()
            elif reader is not self._link.service_source and not reader.is_awaited:
                reader.watch(0)
                self._adopt()

    @property
    def waiting_home(self) -> PumpSource | None:
        """Where a run loop waits that is to read, and so need not be stood in for."""
        source = self._temporary or self._home
        return source if source is not None and source.is_awaited else None

    def give_back(self, source: PumpSource) -> None:
        """On the service thread: the run loop waited, so from now on it reads again."""
        with self._link.lock:
            current = self._temporary or self._home
            if self._reader is self._link.service_source and source is current:
                self._link.service_source.watch(0)
                self._hand_to(source)

    def _hand_to(self, source: PumpSource) -> None:
        self._reader = source
        self._unwatch_all_but(source)
        source.watch(READ)
        # Its loop may be in a callback, or not run: have the service thread look in a moment.
        service.look_after(self)

    def _unwatch_all_but(self, reader: PumpSource | None) -> None:
        for source in (self._temporary, self._home):
            if source is not None and source is not reader:
                source.watch(0)

    def _new_source(self, fd: int) -> PumpSource:
        return PumpSource(fd, self._link.read, interest=0, guard=guard, neglected=self.look_after)

    # The run loop that serves the ports.

    def settle(self, export: Export, port: LocalPort) -> None:
        """A message came for a port: from now on its run loop reads, if it is the only one.

        Where it is none of portkit's the service thread does, whenever no other thread waits.
        """
        export.settled = True
        loop = port._loop
        if self._shared or (loop is not None and loop is self._loop and self._covers(port)):
            return
        with self._link.lock:
            temporary = self._temporary
            if temporary is not None and (loop is None or not temporary.is_on(loop)):
                export.settled = False  # another loop reads for now: later
            elif loop is not None and self._loop in (None, loop):
                export.settled = self._move_in(loop, port)
            elif self._loop is not None:
                self._shared = True
                self._move_out()
            elif port._is_served_elsewhere:
                self._shared = True

    def unsettle(self) -> None:
        """A port was added to a loop or removed from it: find out anew with the next message."""
        with self._link.lock:
            self._shared = False
            self._move_out()
            self._link.table.unsettle_exports()

    def _covers(self, port: LocalPort) -> bool:
        home = self._home
        return home is not None and all(home.is_in(slot.mode) for slot in port._slots)

    def _move_in(self, loop: RunLoop, port: LocalPort) -> bool:
        """Whether that is settled; else it may go better with the next message."""
        channel = self._link.channel
        if channel is None:
            return True
        temporary = self._temporary
        home = self._home or temporary or self._new_source(channel.fileno())
        modes = [slot.mode for slot in port._slots]
        if temporary is not None:  # it stays: the loop is likely to run its mode again
            # That comes last: until the others are entered, which may fail, it is to go on.
            modes = [mode for mode in modes if not temporary.is_in(mode)] + [*temporary.modes]
        try:
            for mode in modes:
                if not home.is_in(mode):
                    loop._add(home, mode.name)
        except LoopEndedError:
            return True
        except OSError:  # no descriptor for a mode's poller: who reads now goes on
            if home not in (self._home, temporary):
                home.invalidate()
            return False
        home.lost = self._loop_lost
        self._home, self._temporary, self._loop = home, None, loop
        self._take_over(home)
        if temporary is not None and temporary is not home:
            temporary.invalidate()
        return True

    def _take_over(self, home: PumpSource) -> None:
        """Have the loop read from now on, unless a thread waits at the link."""
        reader = self._reader
        if reader is home or isinstance(reader, Waiter):
            return
        if reader is not None:
            reader.watch(0)
        self._hand_to(home)

    def _move_out(self) -> None:
        home, loop = self._home, self._loop
        self._home = self._loop = None
        if home is None:
            return
        home.invalidate()
        if self._reader is home:
            # The loop may be about to wait for what comes by the link.
            self._pass_on(at_once=loop is not None and loop._activation is not None)

    def _loop_lost(self) -> None:
        with self._link.lock:
            self._move_out()

    # A run loop that runs a mode until an answer comes.

    def read_in_mode(self, loop: RunLoop, mode: str) -> PumpSource | None:
        """Have the current loop read while it runs ``mode``; None where it does already."""
        source: PumpSource | None = None
        try:
            with self._link.lock:
                channel = self._link.channel
                if channel is None or self._temporary is not None:
                    return None
                found = loop._table.ensure(mode)
                if self._home is not None and self._home.is_in(found):
                    return None
                source = self._temporary = self._new_source(channel.fileno())
                loop._add(source, mode)
                reader = self._reader
                if isinstance(reader, PumpSource):
                    reader.watch(0)
                # A waiter of this very thread is one that a signal handler kept from leaving.
                if not isinstance(reader, Waiter) or reader is loop._waiter:
                    self._hand_to(source)
                return source
        except BaseException:  # a signal handler's, or there is no descriptor for a poller
            self.stop_reading(source)
            raise

    def stop_reading(self, source: PumpSource | None) -> None:
        """What :meth:`read_in_mode` gave is no longer needed, unless it has come to stay."""
        if source is None:
            return
        with self._link.lock:
            if source is self._home:
                return
            try:
                if self._temporary is source:
                    self._temporary = None
                if self._reader is source:
                    self._pass_on()
            finally:
                source.invalidate()

    def close(self) -> None:
        """The link is closed: nobody reads any more."""
        with self._link.lock:
            callers = [*self._callers]
            self._callers.clear()
            if isinstance(self._reader, Waiter):
                callers.append(self._reader)
            self._reader = None
            for source in (self._home, self._temporary):
                if source is not None:
                    source.invalidate()
            self._home = self._temporary = self._loop = None
        for waiter in callers:
            waiter.ring()
