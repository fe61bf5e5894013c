"""Notifications that are posted later, once for several: NSNotificationQueue (T6-T11)."""

from __future__ import annotations

import atexit
import weakref
from collections import deque
from collections.abc import Mapping
from enum import STRICT, IntEnum, IntFlag
from threading import get_ident
from typing import Any, NamedTuple

from portkit import _fork, _thread
from portkit._arguments import check_limit
from portkit._context import detached
from portkit._report import report
from portkit.errors import LoopEndedError, PortError, WrongThreadError
from portkit.notifications.backlog import LIMIT
from portkit.notifications.center import NotificationCenter
from portkit.notifications.idle import IdleWatcher
from portkit.notifications.notification import Notification
from portkit.runloop.blocks import Block
from portkit.runloop.constants import COMMON_MODES, DEFAULT_MODE
from portkit.runloop.loop import RunLoop
from portkit.runloop.mode import Mode
from portkit.runloop.mode_table import Modes, check_mode_names
from portkit.runloop.thread_data import ThreadData

_SHOWN = 5
"""Names that a report lists."""


class PostingStyle(IntEnum):
    """When a queued notification is posted."""

    WHEN_IDLE = 1
    AS_SOON_AS_POSSIBLE = 2
    NOW = 3


class Coalescing(IntFlag, boundary=STRICT):
    """What a queued notification must share with a newer one to be replaced by it."""

    NONE = 0
    ON_NAME = 1
    ON_SENDER = 2


_BOTH = Coalescing.ON_NAME | Coalescing.ON_SENDER


class _Entry(NamedTuple):
    notification: Notification
    modes: tuple[str, ...]

    def fits(self, mode: Mode) -> bool:
        return mode.name in self.modes or (mode.is_common and COMMON_MODES in self.modes)


class NotificationQueue:
    """Posts notifications later, on the thread that made it: when its run loop gets to it.

    Use :meth:`default`. Only the queue's own thread uses it; from others have its loop
    ``perform`` the call. What is still queued when the thread ends is reported.

    Args:
        center: where to post; by default the default center.
        limit: how many notifications may be queued.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(self, center: NotificationCenter | None = None, *, limit: int = LIMIT) -> None:
        self._center = NotificationCenter.default() if center is None else center
        self._limit = check_limit("limit", limit)
        self._loop = RunLoop.current()
        self._soon: deque[_Entry] = deque()
        self._idle: deque[_Entry] = deque()
        self._drains: dict[tuple[str, ...], _Drain] = {}
        self._watcher: IdleWatcher | None = None
        self._watched: set[str] = set()
        _queues.add(self)

    @classmethod
    def default(cls) -> NotificationQueue:
        """The calling thread's queue, which posts to the default center; made at first use."""
        queue = _default.get()
        if queue is None:
            queue = cls()
            _default.set(queue)
        return queue

    def enqueue(
        self,
        notification: Notification | str,
        when: PostingStyle,
        *,
        sender: object = None,
        user_info: Mapping[str, Any] | None = None,
        coalesce: Coalescing = _BOTH,
        modes: Modes = DEFAULT_MODE,
    ) -> bool:
        """Post a notification now, soon, or when there is nothing else to do (T6-T8).

        ``AS_SOON_AS_POSSIBLE`` is when the present callback has returned, or else in the loop's
        next pass; ``WHEN_IDLE`` when a pass finds nothing ready; both only in one of ``modes``.

        Args:
            notification: its name; or a whole notification.
            when: the style.
            sender: whose notification it is, if that was just a name.
            user_info: what else there is to say, likewise.
            coalesce: what is queued with the same name, or sender, or both, is replaced: it is
                taken out, and this one comes last.
            modes: the mode, or modes, in which it may be posted. ``NOW`` compares these names
                with the current mode as they are, so that ``COMMON_MODES`` fits no mode (T7).

        Returns:
            False where it was to be posted now but the loop is in another mode: then nothing was
            done. Else True.

        Raises:
            TypeError, ValueError: an argument is wrong.
            PortError: the queue is full: its loop does not run, or not in those modes.
            WrongThreadError: this is not the queue's thread.
            LoopEndedError: that thread has ended, or the process was forked.
        """
        names = check_mode_names(modes)
        when, coalesce = PostingStyle(when), Coalescing(coalesce)
        self._check_thread("enqueue")
        if not isinstance(notification, Notification):
            notification = Notification(notification, sender, user_info)
        elif sender is not None or user_info is not None:
            raise TypeError("a Notification has its sender and user_info already")
        if when is PostingStyle.NOW:
            mode = self._loop.current_mode
            if mode is not None and mode not in names:
                return False
            self._take_out(notification.name, notification.sender, coalesce)
            self._center.post(notification)
            return True
        self._take_out(notification.name, notification.sender, coalesce)
        if len(self._soon) + len(self._idle) >= self._limit:
            raise PortError(
                f"{self._limit} notifications are queued: run this thread's loop in their modes, "
                "let them coalesce, or raise limit="
            )
        entry = _Entry(notification, names)
        if when is PostingStyle.AS_SOON_AS_POSSIBLE:
            self._hasten(names)
            self._soon.append(entry)
        else:
            self._idle.append(entry)
            self._loop.wake_up()  # it may be about to sleep, or sleep in the event loop of a host
            if not self._watched.issuperset(names):
                self._watch()
        return True

    def dequeue(
        self,
        notification: Notification | str,
        *,
        sender: object = None,
        coalesce: Coalescing = _BOTH,
    ) -> int:
        """Take out what is queued and matches, so that it is not posted.

        Args:
            notification: the name to match; or a notification with the name and sender to match.
            sender: the sender to match, by identity, if that was just a name.
            coalesce: whether the name must match, the sender, or both.

        Returns:
            How many were taken out.

        Raises:
            TypeError, ValueError: an argument is wrong.
            WrongThreadError: this is not the queue's thread.
            LoopEndedError: that thread has ended, or the process was forked.
        """
        self._check_thread("dequeue")
        if not isinstance(notification, Notification):
            notification = Notification(notification, sender)
        return self._take_out(notification.name, notification.sender, Coalescing(coalesce))

    def __len__(self) -> int:
        return len(self._soon) + len(self._idle)

    def __repr__(self) -> str:
        return f"<NotificationQueue: {len(self._soon)} soon, {len(self._idle)} when idle>"

    def __bool__(self) -> bool:
        return True

    def _take_out(self, name: str, sender: object, coalesce: Coalescing) -> int:
        if not coalesce:
            return 0
        count = 0
        for entries in (self._soon, self._idle):
            left = [
                entry
                for entry in entries
                if (coalesce & Coalescing.ON_NAME and entry.notification.name != name)
                or (coalesce & Coalescing.ON_SENDER and entry.notification.sender is not sender)
            ]
            if len(left) != len(entries):
                count += len(entries) - len(left)
                entries.clear()
                entries.extend(left)
                self._watch()
        return count

    def _hasten(self, modes: tuple[str, ...]) -> None:
        """Have what is queued for these modes posted after this callback, or in the next pass."""
        drain = self._drains.get(modes)
        if drain is None or drain.claimed:
            drain = self._drains[modes] = _Drain(self, self._soon, modes)
            self._loop._put(drain, wake=True)
        urgent = self._loop._blocks.urgent
        if drain not in urgent:
            urgent.append(drain)

    def _watch(self) -> None:
        """Be told when the loop is idle, in the modes of what waits for that, and in no others."""
        needed = {name for entry in self._idle for name in entry.modes}
        if needed == self._watched:
            return
        if self._watcher is not None:
            self._watcher.invalidate()
            self._watcher = None
        self._watched = needed
        if needed:
            self._watcher = detached(
                IdleWatcher, self._post_idle, self._ended, self._loop, sorted(needed)
            )

    def _post_idle(self) -> None:
        activation = self._loop._activation
        assert activation is not None, "a loop that is idle runs"
        drain = _Drain(self, self._idle, (activation.mode.name,))
        self._loop._put(drain, wake=True)
        self._loop._blocks.urgent.append(drain)
        self._loop._blocks.run_urgent(activation.mode)

    def _post(self, entries: deque[_Entry]) -> None:
        """Post what may be posted now, oldest first. What is queued meanwhile waits (T9)."""
        activation = self._loop._activation
        assert activation is not None, "blocks are run by an activation"
        batch = deque([entry for entry in entries if entry.fits(activation.mode)])
        left = [entry for entry in entries if not entry.fits(activation.mode)]
        entries.clear()
        entries.extend(left)
        self._watch()
        try:
            while batch:
                self._center.post(batch.popleft().notification)
        finally:
            if batch:  # a signal handler raised, or an observer wants to leave the loop
                entries.extendleft(reversed(batch))
                self._watch()
                if entries is self._soon:
                    for entry in batch:
                        self._hasten(entry.modes)

    def _ended(self, error: LoopEndedError) -> None:
        entries = [*self._soon, *self._idle]
        self._soon.clear()
        self._idle.clear()
        if entries:
            names = ", ".join([repr(entry.notification.name) for entry in entries[:_SHOWN]])
            more = ", …" if len(entries) > _SHOWN else ""
            report(
                f"{len(entries)} queued notifications were never posted, because their thread "
                f"ended: {names}{more}",
                error,
                self,
            )

    def _check_thread(self, what: str) -> None:
        self._loop._check_alive()
        if get_ident() != self._loop.ident:
            raise WrongThreadError(
                f"{what} was called on thread {_thread.thread_name(get_ident())}, but this is the "
                f"notification queue of thread {_thread.thread_name(self._loop.ident)}: use "
                f"NotificationQueue.default(), or have that thread's loop perform the call"
            )


class _Drain(Block):
    """A call that posts what is queued."""

    __slots__ = ("_queue",)

    def __init__(
        self, queue: NotificationQueue, entries: deque[_Entry], modes: tuple[str, ...]
    ) -> None:
        super().__init__(queue._post, (entries,), modes)
        self._queue = queue

    def abandon(self, error: LoopEndedError) -> None:
        """The loop ended first: what is queued is reported, once."""
        self._queue._ended(error)


_default: ThreadData[NotificationQueue] = ThreadData()
_queues: weakref.WeakSet[NotificationQueue] = weakref.WeakSet()


def _process_ends() -> None:
    """The main thread has no end of its own at which its loop would tell of it."""
    for queue in list(_queues):
        loop = queue._loop
        if loop._is_main and loop._generation == _fork.generation:
            queue._ended(LoopEndedError("the main thread's run loop has ended with the process"))


atexit.register(_process_ends)
