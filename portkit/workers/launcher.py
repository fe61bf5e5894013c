"""How workers are started: threads here, processes and hosts by the same interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from signal import Signals
from time import monotonic
from typing import ClassVar, Protocol, TypeAlias

from portkit.port import Port
from portkit.workers.ending import Ending
from portkit.workers.target import Target, check
from portkit.workers.worker import Worker

Ended: TypeAlias = Callable[[Worker, Ending | None], None]
"""Called once when a worker has ended, on any thread; None for a good end."""


class Joinable(Protocol):
    """A thread, or what has one."""

    def join(self, timeout: float | None) -> None:
        """Wait for it to be gone, up to ``timeout`` seconds."""


def join_all(threads: Iterable[Joinable], timeout: float | None) -> None:
    """Wait up to ``timeout`` seconds in all for threads to be gone."""
    deadline = None if timeout is None else monotonic() + timeout
    for thread in threads:
        thread.join(None if deadline is None else max(0.0, deadline - monotonic()))


class Launcher(ABC):
    """Starts workers and waits for them to be gone.

    Args:
        target: what they run; :meth:`check` has seen it.
        door: the group's port for check-ins.
        over: the scheme of their ports.
        check_in_timeout: seconds for a worker to wait for the answer to its check-in.

    Attributes:
        can_kill: whether a worker can be made to end.
    """

    can_kill: ClassVar[bool] = False

    def __init__(
        self, target: Target, door: Port, over: str, check_in_timeout: float | None
    ) -> None:
        self._target = target
        self._door = door
        self._over = over
        self._check_in_timeout = check_in_timeout

    @staticmethod
    def check(target: Target) -> Target:
        """The target, if such workers can run it.

        Raises:
            TypeError, ValueError: why not, and what to give instead.
        """
        return check(target)

    @staticmethod
    def door_address(over: str) -> str:
        """The address for a group's door: a new one for each group."""
        return f"{over}:"

    @abstractmethod
    def start(self, worker: Worker, ended: Ended) -> None:
        """Start one worker, which will check in at the group's door.

        Raises:
            Exception: it cannot be started; ``ended`` will not be called.
        """

    @abstractmethod
    def signal(self, worker: Worker, number: Signals, why: str) -> None:
        """Send a signal to the worker's process, if it has one and that has not ended.

        Args:
            worker: whose.
            number: the signal.
            why: for the worker's error, after "killed by SIGTERM, as".
        """

    @abstractmethod
    def join(self, timeout: float | None) -> None:
        """Wait up to ``timeout`` seconds in all for what ended workers leave behind to go."""
