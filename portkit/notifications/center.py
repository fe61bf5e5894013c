"""The notification center: who wants to know what, and is told when it is posted."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor
from itertools import chain, count
from threading import Lock
from typing import Any, TypeAlias

from portkit import _fork
from portkit._arguments import check_kind, check_limit
from portkit.notifications.backlog import LIMIT
from portkit.notifications.executor_delivery import ExecutorObservation
from portkit.notifications.loop_delivery import LoopObservation
from portkit.notifications.notification import Notification, check_name
from portkit.notifications.observation import NotificationHandler, Observation
from portkit.notifications.port_endings import PortEndings
from portkit.runloop.constants import COMMON_MODES
from portkit.runloop.loop import RunLoop
from portkit.runloop.mode_table import Modes, check_mode_names

_Key: TypeAlias = "tuple[str | None, int]"
"""A name or None for all, and the id of a sender or 0 for all."""

_centers: weakref.WeakSet[NotificationCenter] = weakref.WeakSet()


class NotificationCenter:
    """Where notifications are posted and observed (NSNotificationCenter).

    Use :meth:`default`, or centers of your own for what is none of others' business. Any thread
    may post, add and remove observers. What is added during a post is told of the next one; what
    is removed before its turn is not told. No lock is held while observers are called.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        # Changed under the lock by replacing tuples; read without it.
        self._table: dict[_Key, tuple[tuple[int, Observation], ...]] = {}
        self._numbers = count()
        self._retired: deque[Observation] = deque()
        self._endings: PortEndings | None = None
        _centers.add(self)

    @classmethod
    def default(cls) -> NotificationCenter:
        """The process's center, where portkit posts too."""
        return _default

    def add_observer(
        self,
        fn: NotificationHandler,
        name: str | None = None,
        sender: object = None,
        *,
        weak: bool = False,
        loop: RunLoop | None = None,
        executor: Executor | None = None,
        modes: Modes = COMMON_MODES,
        limit: int = LIMIT,
    ) -> Observation:
        """Have ``fn(notification)`` called for what is posted from now on.

        It is called in the poster's call, unless ``loop`` or ``executor`` names another place;
        there one after the other, in the order of posting. What it raises is reported as for any
        other callback, and the other observers are called all the same.

        Args:
            fn: the observer.
            name: of the notifications; None for every name.
            sender: of the notifications, compared by identity; None for every sender. It is held
                weakly: the observer goes when the sender does.
            weak: hold the observer weakly: it goes when nobody else refers to ``fn``, or, where
                that is a method, to its object.
            loop: the run loop to call it on, also for what that loop's thread posts. The observer
                goes with the loop.
            executor: the executor to call it, as one of threads.
            modes: of the run loop, in which it may be called.
            limit: how many notifications may wait for the loop or executor. Further ones are not
                delivered, which is reported and counted in :attr:`Observation.lost`.

        Returns:
            The observation: ``remove()`` it, or leave its ``with`` block. It need not be kept.

        Raises:
            TypeError, ValueError: an argument is wrong.
            LoopEndedError: the run loop has ended.
        """
        if not callable(fn):
            raise TypeError(f"an observer is called with a notification; {fn!r} cannot be called")
        if name is not None:
            check_name(name)
        check_limit("limit", limit)
        mode_names = check_mode_names(modes)
        retire = self._retire
        observation: Observation
        if loop is not None and executor is not None:
            raise ValueError("an observer is called in one place: give loop= or executor=")
        if loop is not None:
            observation = LoopObservation(
                fn, name, sender, weak=weak, retire=retire,
                loop=check_kind(loop, RunLoop), modes=mode_names, limit=limit,
            )  # fmt: skip
        elif executor is not None:
            observation = ExecutorObservation(
                fn, name, sender, weak=weak, retire=retire,
                executor=check_kind(executor, Executor), limit=limit,
            )  # fmt: skip
        else:
            observation = Observation(fn, name, sender, weak=weak, retire=retire)
        with self._lock:
            entry = (next(self._numbers), observation)
            self._table[observation._key] = (*self._table.get(observation._key, ()), entry)
        if not observation._valid:  # its sender is gone already, or its loop
            self._retired.append(observation)
        self._sweep()
        if self._endings is not None:
            self._endings.observed(name, sender)
        return observation

    def remove_observer(
        self,
        observer: Observation | NotificationHandler,
        name: str | None = None,
        sender: object = None,
    ) -> int:
        """Remove an observation, or those of a function (removeObserver:name:object:).

        Args:
            observer: what :meth:`add_observer` returned, or what it was given.
            name: remove only those of that name.
            sender: remove only those of that sender.

        Returns:
            How many were removed.
        """
        if isinstance(observer, Observation):
            was_valid = observer.is_valid
            observer.remove()
            return int(was_valid)
        removed = 0
        for _, observation in chain.from_iterable(list(self._table.values())):
            if (
                observation._valid
                and observation._is_of(observer)
                and name in (None, observation.name)
                and (sender is None or observation.sender is sender)
            ):
                observation.remove()
                removed += 1
        return removed

    def post(
        self,
        notification: Notification | str,
        sender: object = None,
        user_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell the observers, in the order in which they were added.

        Those without a loop or executor are called before this returns. From any thread, and from
        an observer. This takes no lock: it may be called from a signal handler or a finalizer if
        the observers of that name are fit for that. Those on a run loop are; those of an executor
        are not.

        Args:
            notification: its name; or a whole notification.
            sender: whose notification it is.
            user_info: what else there is to say.

        Raises:
            TypeError, ValueError: an argument is wrong; nobody was told.
        """
        if isinstance(notification, Notification):
            if sender is not None or user_info is not None:
                raise TypeError("a Notification has its sender and user_info already")
            found = self._observers_of(notification.name, notification.sender)
        elif user_info is not None or type(notification) is not str:
            notification = Notification(notification, sender, user_info)
            found = self._observers_of(notification.name, sender)
        else:
            found = self._observers_of(notification, sender)
            if not found and notification:
                return
            notification = Notification(notification, sender)
        for _, observation in found:
            observation._tell(notification)

    def _observers_of(
        self, name: str, sender: object
    ) -> tuple[tuple[int, Observation], ...] | list[tuple[int, Observation]]:
        if self._retired:
            self._sweep()
        table = self._table
        named, others = table.get((name, 0), ()), table.get((None, 0), ())
        if sender is None:
            theirs: list[tuple[int, Observation]] = []
        else:
            key = id(sender)
            theirs = [
                entry
                for entry in table.get((name, key), ()) + table.get((None, key), ())
                if entry[1]._wants(sender)
            ]
        if not (others or theirs):
            return named
        return sorted(chain(named, others, theirs), key=_number)

    def _retire(self, observation: Observation) -> None:
        self._retired.append(observation)
        self._sweep()

    def _sweep(self) -> None:
        """Forget who was removed. Where the lock is not free, whoever has it does so after."""
        while self._retired and self._lock.acquire(blocking=False):
            try:
                while self._retired:
                    key = self._retired.popleft()._key
                    left = tuple([entry for entry in self._table.get(key, ()) if entry[1]._valid])
                    if left:
                        self._table[key] = left
                    else:
                        self._table.pop(key, None)
            finally:
                self._lock.release()

    def _forked(self) -> None:
        self._lock = Lock()  # a thread that is not in the child may have held it

    def __repr__(self) -> str:
        observers = sum([len(entries) for entries in list(self._table.values())])
        return f"<{type(self).__name__} {id(self):#x} of {observers} observers>"


def _number(entry: tuple[int, Observation]) -> int:
    return entry[0]


def _after_fork_in_child() -> None:
    for center in list(_centers):
        center._forked()


_fork.call_in_child(_after_fork_in_child)

_default = NotificationCenter()
_default._endings = PortEndings(_default.post)
