"""Waking a blocked thread: a pipe to ring, and the one waiter of each thread that sleeps on it.

The pipe is only a doorbell: what happened is always recorded elsewhere, under the eyes of both
sides, before it rings. So a ring too many costs one look, and a ring is skipped whenever the
thread is not asleep. Ringing takes no lock; signal handlers and finalizers may do it.
"""

from __future__ import annotations

import os
import select
from typing import Protocol

from portkit import _fork
from portkit.errors import PortError

LONGEST_SLEEP = 3600.0
"""Seconds slept at a time: poll(2) counts milliseconds in an int. Callers look at the clock."""


_MOST_POLLS = 16
"""Poll objects kept for each thread. They hold numbers, so one that outlives its descriptor is
right again for whatever gets the number."""


class Pipe:
    """A non-blocking pipe, closed when the last reference goes.

    Closing by reference count, not by call, keeps a thread that is just ringing from writing
    into a descriptor that was closed and reused meanwhile.
    """

    __slots__ = ("__weakref__", "read_fd", "write_fd")

    def __init__(self) -> None:
        self.read_fd: int = -1
        self.write_fd: int = -1
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        _fork.close_in_child(self)

    def ring(self) -> None:
        """Make the read end readable. A full pipe is readable already."""
        try:
            os.write(self.write_fd, b"\0")
        except BlockingIOError:
            pass

    def drain(self) -> None:
        """Make the read end not readable, until the next ring."""
        try:
            while len(os.read(self.read_fd, 256)) == 256:
                pass
        except BlockingIOError:
            pass

    def close_in_child(self) -> None:
        """Close this process's copies (the class says why nobody else calls this)."""
        descriptors = (self.read_fd, self.write_fd)
        self.read_fd = -1
        self.write_fd = -1
        for fd in descriptors:
            if fd >= 0:
                os.close(fd)

    __del__ = close_in_child


class Reader(Protocol):
    """Something that brings what a thread waits for, and is read by that thread meanwhile."""

    def sleep(self, waiter: Waiter, timeout: float | None) -> None:
        """As ``waiter.sleep(timeout)``, reading what comes in."""

    def leave(self, waiter: Waiter) -> None:
        """The wait is over; every wait that may have called :meth:`sleep` ends with this."""


class Gathering(Protocol):
    """Something that has kept a little of what this thread sent, to write it all at once."""

    def flush_gathered(self) -> bool:
        """Write it now; False where there was nothing. Never raises an ``Exception``."""
        ...


class Waiter:
    """What one thread sleeps on, whatever it waits for: messages, an answer, room, its loop.

    Protocol: the sleeper sets ``armed`` to the object it waits for, looks at that object once
    more, then calls :meth:`sleep`. Whoever changes the object afterwards looks at ``armed`` and
    rings if it is that object. One of the two always sees the other. ``asleep`` is set while the
    thread blocks, by :meth:`sleep` or by whoever waits on :attr:`read_fd` with other descriptors.
    Whoever does that calls :meth:`flush` before.

    Attributes:
        sends: how much the thread has sent over links since it last waited.
        unflushed: where some of that is still kept.
    """

    __slots__ = ("_pipe", "_poll", "_polls", "armed", "asleep", "sends", "unflushed")

    def __init__(self) -> None:
        self.armed: object = None
        self.asleep: bool = False
        self.sends: int = 0
        self.unflushed: list[Gathering] = []
        self._pipe: Pipe | None = Pipe()
        self._poll = select.poll()
        self._poll.register(self._pipe.read_fd, select.POLLIN)
        self._polls: dict[int, select.poll] = {}

    @property
    def read_fd(self) -> int:
        """The descriptor that a ring makes readable, for a poller that watches others too."""
        return -1 if self._pipe is None else self._pipe.read_fd

    @property
    def write_fd(self) -> int:
        """The descriptor to write a byte into from C, as ``signal.set_wakeup_fd`` does."""
        return -1 if self._pipe is None else self._pipe.write_fd

    def ring(self) -> None:
        """Wake the thread if it sleeps, or is about to; many rings at once cost one write."""
        if self.armed is not None:
            self.armed = None
            pipe = self._pipe
            if pipe is not None:
                try:
                    pipe.ring()
                except BaseException:
                    pipe.ring()  # a signal handler raised: who is no longer armed must be rung
                    raise

    def sleep(self, timeout: float | None) -> None:
        """Block until a ring, about ``timeout`` seconds (None: for ever), or for no reason."""
        pipe = self._pipe
        assert pipe is not None, "a waiter sleeps on its own thread, which is alive"
        self.flush()
        self.asleep = True
        try:
            rung = self._poll.poll(
                None if timeout is None else min(timeout, LONGEST_SLEEP) * 1000.0
            )
        finally:
            self.asleep = False
        if rung:
            pipe.drain()

    def flush(self) -> None:
        """Before a wait: have everything written that the thread has sent."""
        self.sends = 0
        while self.unflushed:
            self.unflushed.pop().flush_gathered()

    def poll_with(self, fd: int) -> select.poll:
        """A poll object for the ring and one more descriptor to read from."""
        found = self._polls.get(fd)
        if found is None:
            if len(self._polls) >= _MOST_POLLS:
                self._polls.clear()
            found = self._polls[fd] = select.poll()
            found.register(self.read_fd, select.POLLIN)
            found.register(fd, select.POLLIN)
        return found

    def check_awake(self) -> None:
        """Raise where a signal handler wants to wait on a thread whose wait it interrupts.

        Raises:
            PortError: the wait below would be disarmed, and sleep through what it waits for.
        """
        if self.armed is not None or self.asleep:
            raise PortError(
                "a signal handler cannot wait: this thread is asleep in a wait of its own. Use "
                "timeout=0 here, or perform() what has to wait"
            )

    def drain(self) -> None:
        """Take the ring that a poller saw on :attr:`read_fd`."""
        if self._pipe is not None:
            self._pipe.drain()

    def close(self) -> None:
        """Let go of the pipe. Later rings do nothing."""
        self.armed = None
        self._pipe = None
