"""The service thread: a run loop that does for links what no other thread is there to do.

It accepts connections, sees to handshakes and their time-outs, writes what did not go in at once,
and reads links that nobody else reads. It starts with the first link or listener of the process,
and ends with the last.
"""

from __future__ import annotations

import atexit
import select
from collections.abc import Callable, Hashable
from threading import Event, Lock, Thread
from typing import Protocol, cast

from portkit import _fork, _thread
from portkit._context import detached
from portkit._report import report
from portkit._wakeup import Gathering
from portkit.errors import LoopEndedError
from portkit.link.patience import Patience
from portkit.runloop import InputSource, RunLoop, Timer
from portkit.runloop.poller import READ, WRITE
from portkit.runloop.pump import PumpSource

_LOOK_AFTER = 0.02
"""Seconds for which a link may be neglected before the service thread reads it."""
_FLUSH = 0.001
"""Seconds for which a thread that goes on without waiting may leave unwritten what it sent."""
_LINGER = 1.0
"""Seconds for which the end of a process waits for peers to take more of what is left for them."""
_LONGEST_LINGER = 30.0
"""Seconds for which it waits at most, for peers that do take some now and then."""
_START = 30.0
"""Seconds for the thread to start; only a machine at its end needs more."""


class Lingering(Protocol):
    """A link, at the end of the process."""

    def linger(self, patience: Patience) -> None:
        """The process ends: write what is left."""

    def finish(self) -> bool:
        """Write no more; whether to wait for the peer's end."""
        ...

    def await_end(self, patience: Patience) -> None:
        """Wait for that."""


class LookedAfter(Protocol):
    """Something that is to be read, by others as a rule."""

    @property
    def reads(self) -> int:
        """How often that was done."""
        ...

    def look_after(self) -> None:
        """It was not read for a moment: have the service thread read, if nobody will."""


class ServiceSource(PumpSource):
    """A link's descriptor in the service loop, watched for reading and writing by turns."""

    __slots__ = ("_writing",)

    def __init__(self, fd: int, pump: Callable[[], None]) -> None:
        super().__init__(fd, pump, interest=0)
        self._writing = 0

    @property
    def is_reader(self) -> bool:
        """Whether the service thread is to read."""
        return bool(self.interest & READ)

    def watch(self, interest: int) -> None:
        """Watch for reading, or for nothing; writing is apart from it."""
        super().watch(interest | self._writing)

    @property
    def is_writer(self) -> bool:
        """Whether the service thread is to write, as soon as something goes in."""
        return bool(self._writing)

    def watch_writing(self, *, wanted: bool) -> None:
        """Watch for writing as well, or no more."""
        self._writing = WRITE if wanted else 0
        super().watch(self.interest & READ | self._writing)


class _Service:
    """The thread, its loop, and whose servant it is."""

    def __init__(self) -> None:
        self.generation = _fork.generation
        self.clients: set[Hashable] = set()
        self.unread: dict[LookedAfter, int] = {}
        self.loop: RunLoop
        self._keep_alive = InputSource(lambda _: None)
        self._looking = False
        self.gathering: dict[Gathering, None] = {}
        self._flushing = False
        self._started = Event()
        self.thread = Thread(target=self._run, name="portkit service", daemon=True)
        self.thread.start()
        if not self._started.wait(_START):
            raise LoopEndedError("the service thread did not start: the machine is overloaded")

    def _run(self) -> None:
        self.loop = RunLoop.current()
        self.loop.add_source(self._keep_alive)
        self._started.set()
        try:
            while self._keep_alive.is_valid:
                self.loop.run()
        finally:
            _thread.end_current()

    def end(self) -> None:
        try:
            self._keep_alive.invalidate()
            self.loop.perform(self.loop.stop)
        except LoopEndedError:
            pass  # between the two: the loop found itself empty

    def look_after(self, link: LookedAfter) -> None:
        self.unread[link] = link.reads
        if not self._looking:
            self._looking = True
            try:
                detached(self.loop.perform, self._start_looking)
            except BaseException:  # of a signal handler: the next call begins it, if this did not
                self._looking = False
                raise

    def _start_looking(self) -> None:
        Timer.scheduled(_LOOK_AFTER, self._look, repeats=True)

    def _look(self, timer: Timer) -> None:
        for link, reads in list(self.unread.items()):
            if link.reads != reads:
                self.unread[link] = link.reads
            else:
                self.unread.pop(link, None)
                link.look_after()
        if not self.unread:
            timer.invalidate()
            self._looking = False
            if self.unread:  # another thread put one there, and saw the timer still running
                self.look_after(next(iter(self.unread)))

    def flush_soon(self, link: Gathering) -> None:
        self.gathering[link] = None
        if not self._flushing:
            self._flushing = True
            try:
                detached(self.loop.perform, self._start_flushing)
            except BaseException:  # as in look_after
                self._flushing = False
                raise

    def _start_flushing(self) -> None:
        Timer.scheduled(_FLUSH, self._flush, repeats=True)

    def _flush(self, timer: Timer) -> None:
        for link in list(self.gathering):
            self.gathering.pop(link, None)  # first: another thread may put it there right after
            if link.flush_gathered():
                self.gathering[link] = None
        if not self.gathering:
            timer.invalidate()
            self._flushing = False
            if self.gathering:  # as in _look
                self.flush_soon(next(iter(self.gathering)))


_lock = Lock()
_service: _Service | None = None


def join(client: Hashable) -> RunLoop:
    """Have the service thread for ``client``; its loop."""
    return _join(client).loop


def _join(client: Hashable) -> _Service:
    global _service
    with _lock:
        if _service is None:
            _service = _Service()
        _service.clients.add(client)
        return _service


def leave(client: Hashable) -> None:
    """``client`` needs the service thread no more; without clients it ends."""
    global _service
    with _lock:
        service = _service
        if service is None:
            return
        service.clients.discard(client)
        if service.clients:
            return
        _service = None
    service.end()


def clients() -> tuple[Hashable, ...]:
    """Who has the service thread now. Takes no lock."""
    service = _service
    return () if service is None else tuple(service.clients.copy())


def call(fn: Callable[[], object]) -> None:
    """Have the service thread call ``fn``; nothing where there is none. Takes no lock."""
    service = _service
    if service is not None:
        try:
            detached(service.loop.perform, fn)
        except LoopEndedError:
            pass


def loop() -> RunLoop | None:
    """The service thread's loop, if it runs."""
    return None if _service is None else _service.loop


def look_after(link: LookedAfter) -> None:
    """Perhaps nobody reads the link; if that is so in a moment, the service thread does.

    Nobody does whose run loop does not run, or is in a long callback.
    """
    service = _service
    if service is not None:
        try:
            service.look_after(link)
        except LoopEndedError:
            pass


def flush_soon(link: Gathering) -> None:
    """Write what the link has gathered in a moment, if its sender does not do so before."""
    service = _service
    if service is not None:
        try:
            service.flush_soon(link)
        except LoopEndedError:
            pass


def wait_writable(fd: int, timeout: float) -> None:
    """Wait up to ``timeout`` seconds for the descriptor to take more bytes."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(max(0.0, timeout) * 1000.0)


def wait_readable(fd: int, timeout: float) -> None:
    """Wait up to ``timeout`` seconds for the descriptor to have something."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(max(0.0, timeout) * 1000.0)


def _linger() -> None:
    service = _service
    if service is None:
        return
    patience = Patience(_LINGER, _LONGEST_LINGER)
    links = [cast("Lingering", one) for one in service.clients if hasattr(one, "linger")]
    awaited: list[Lingering] = []
    for link in links:
        try:
            link.linger(patience)
            if link.finish():
                awaited.append(link)
        except Exception as error:
            report("what was left to write could not be written", error, link)
    for link in awaited:
        try:
            link.await_end(patience)
        except Exception as error:
            report("the end of a peer could not be awaited", error, link)


atexit.register(_linger)


def _after_fork_in_child() -> None:
    global _lock, _service
    _lock = Lock()
    _service = None


_fork.call_in_child(_after_fork_in_child)
