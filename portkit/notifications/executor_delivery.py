"""Observers that are called by an executor: one notification at a time, in order."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Lock

from portkit import _fork
from portkit._report import report
from portkit.notifications.backlog import Backlog
from portkit.notifications.notification import Notification
from portkit.notifications.observation import NotificationHandler, Observation

_BATCH = 64
"""Notifications after which others of the executor have their turn."""


class ExecutorObservation(Observation):
    """An observer that is called by an executor, on one of its threads at a time."""

    __slots__ = ("_backlog", "_executor", "_generation", "_is_busy", "_lock", "_waiting")

    def __init__(
        self,
        fn: NotificationHandler,
        name: str | None,
        sender: object,
        *,
        weak: bool,
        retire: Callable[[Observation], None],
        executor: Executor,
        limit: int,
    ) -> None:
        """For :class:`NotificationCenter`; not for users."""
        # Not imported for that: where nobody has done so, it is none of these.
        module = sys.modules.get("concurrent.futures.process")
        if module is not None and isinstance(executor, module.ProcessPoolExecutor):
            raise TypeError(
                "an observer is called in this process: notifications go to other processes by "
                "forward()"
            )
        self._backlog = Backlog(limit, self)
        self._waiting: deque[Notification] = deque()
        self._executor = executor
        self._generation = _fork.generation
        self._is_busy = False
        self._lock = Lock()
        super().__init__(fn, name, sender, weak=weak, retire=retire)

    @property
    def pending(self) -> int:
        """How many notifications wait until the executor gets to them."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """How many the observer was not told of, since too many waited. Each time is reported."""
        return self._backlog.lost

    def remove(self) -> None:
        """As :meth:`Observation.remove`."""
        super().remove()
        self._waiting.clear()

    def _tell(self, notification: Notification) -> None:
        if self._generation != _fork.generation:
            self.remove()  # the executor's threads are the parent's
        if not (self._valid and self._backlog.admits(notification, len(self._waiting))):
            return
        self._waiting.append(notification)
        with self._lock:
            if self._is_busy:
                return
            self._is_busy = True
        try:
            self._submit()
        except RuntimeError as error:
            self._end("the executor of their observer takes no more calls", error)

    def _submit(self) -> None:
        self._executor.submit(self._work).add_done_callback(self._check)

    def _work(self) -> None:
        """Tell the observer of what waits, and of what comes meanwhile."""
        while True:
            self._work_off()
            with self._lock:
                if not self._waiting:
                    self._is_busy = False
                    return
            try:
                self._submit()
            except RuntimeError:  # it was shut down, and does what it has taken on
                continue
            return

    def _work_off(self) -> None:
        for _ in range(_BATCH):
            try:
                notification = self._waiting.popleft()
            except IndexError:
                return
            if not self._waiting:
                self._backlog.emptied()
            try:
                self._call(notification)
            except BaseException as error:  # the executor's thread goes on, and so does this
                report("a notification's observer raised", error, self)

    def _check(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            self._end("the executor of their observer did not make the call", error)

    def _end(self, why: str, error: BaseException | None) -> None:
        self._backlog.give_up(len(self._waiting), why, error)
        self.remove()
