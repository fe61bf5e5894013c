"""Waiting on descriptors: one file per kernel mechanism would be more than these few lines.

A poller's set may be changed by any thread while the loop's thread waits on it, with effect at
once (R33).
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Protocol

from portkit import _fork

READ = 1
WRITE = 2


class Poller(Protocol):
    """Watches descriptors for READ and WRITE, level-triggered."""

    def register(self, fd: int, interest: int) -> None:
        """Start watching; OSError where the kernel cannot watch such a descriptor."""

    def modify(self, fd: int, interest: int) -> None:
        """Watch for something else; a descriptor that was closed meanwhile is ignored."""

    def unregister(self, fd: int) -> None:
        """Stop watching; a descriptor that was closed meanwhile is ignored."""

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait up to ``timeout`` seconds (None: for ever); what descriptors are ready for what."""
        ...

    def fileno(self) -> int:
        """The poller's own descriptor, readable while a watched one is ready."""
        ...

    def close(self) -> None:
        """Close the poller's own descriptor."""


if sys.platform == "linux" or (not TYPE_CHECKING and hasattr(select, "epoll")):

    class EpollPoller:
        """epoll(7)."""

        _LONGEST = 3600.0
        """epoll_wait counts milliseconds in an int; callers look at the clock anyway."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            # Watched for nothing, and so not registered: epoll tells of hang-ups all the same.
            self._paused: set[int] = set()
            _fork.close_in_child(self)

        def register(self, fd: int, interest: int) -> None:
            """As the protocol says."""
            self._epoll.register(fd, _epoll_events(interest))
            if not interest:
                self.modify(fd, interest)

        def modify(self, fd: int, interest: int) -> None:
            """As the protocol says."""
            try:
                if not interest:
                    self._paused.add(fd)
                    self._epoll.unregister(fd)
                elif fd in self._paused:
                    self._paused.remove(fd)
                    self._epoll.register(fd, _epoll_events(interest))
                else:
                    self._epoll.modify(fd, _epoll_events(interest))
            except (OSError, ValueError):
                pass

        def unregister(self, fd: int) -> None:
            """As the protocol says."""
            self._paused.discard(fd)
            try:
                self._epoll.unregister(fd)
            except (OSError, ValueError):
                pass

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            """As the protocol says."""
            limit = None if timeout is None else min(timeout, self._LONGEST)
            events = self._epoll.poll(limit)
            return [(fd, _ready_from_epoll(event)) for fd, event in events]

        def fileno(self) -> int:
            """As the protocol says."""
            return self._epoll.fileno()

        def close(self) -> None:
            """As the protocol says."""
            self._epoll.close()

        close_in_child = close

    def _epoll_events(interest: int) -> int:
        return (select.EPOLLIN if interest & READ else 0) | (
            select.EPOLLOUT if interest & WRITE else 0
        )

    def _ready_from_epoll(event: int) -> int:
        if event & (select.EPOLLERR | select.EPOLLHUP):
            return READ | WRITE
        return (READ if event & (select.EPOLLIN | select.EPOLLPRI) else 0) | (
            WRITE if event & select.EPOLLOUT else 0
        )

    def new_poller() -> Poller:
        """The best poller of this system."""
        return EpollPoller()

else:

    class KqueuePoller:
        """kqueue(2)."""

        def __init__(self) -> None:
            self._kqueue = select.kqueue()
            self._interests: dict[int, int] = {}
            # A kqueue is not inherited: there is nothing for a forked child to close.

        def register(self, fd: int, interest: int) -> None:
            """As the protocol says."""
            self._change(fd, 0, interest)
            self._interests[fd] = interest

        def modify(self, fd: int, interest: int) -> None:
            """As the protocol says."""
            try:
                self._change(fd, self._interests.get(fd, 0), interest)
            except OSError:
                pass
            self._interests[fd] = interest

        def unregister(self, fd: int) -> None:
            """As the protocol says."""
            try:
                self._change(fd, self._interests.pop(fd, 0), 0)
            except OSError:
                pass

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            """As the protocol says."""
            ready: dict[int, int] = {}
            for event in self._kqueue.control(None, 64, timeout):
                bit = READ if event.filter == select.KQ_FILTER_READ else WRITE
                ready[event.ident] = ready.get(event.ident, 0) | bit
            return list(ready.items())

        def fileno(self) -> int:
            """As the protocol says."""
            return self._kqueue.fileno()

        def close(self) -> None:
            """As the protocol says."""
            self._kqueue.close()

        def _change(self, fd: int, before: int, after: int) -> None:
            changes = []
            for bit, kind in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE)):
                if after & bit and not before & bit:
                    changes.append(select.kevent(fd, kind, select.KQ_EV_ADD))
                elif before & bit and not after & bit:
                    changes.append(select.kevent(fd, kind, select.KQ_EV_DELETE))
            if changes:
                self._kqueue.control(changes, 0, 0)

    def new_poller() -> Poller:
        """The best poller of this system."""
        return KqueuePoller()
