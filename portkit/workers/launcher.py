"""How workers are started: threads here, processes and hosts by the same interface."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from signal import Signals
from time import monotonic
from typing import ClassVar, Protocol, TypeAlias

from portkit.errors import CheckInError
from portkit.message import Component
from portkit.port import Port
from portkit.workers.check_in import Arrival
from portkit.workers.ending import Ending
from portkit.workers.target import Target, check
from portkit.workers.worker import Worker

Ended: TypeAlias = Callable[[Worker, Ending | None], None]
"""Called once when a worker has ended, on any thread; None for a good end."""


def scheme_of_ports(over: str) -> str:
    """The scheme of the ports that worker and main side exchange.

    Where there is no better one they are plain ports, which travel over any connection and are
    reached over no other: a worker need not listen anywhere.
    """
    return over if over == "message" else "mach"


def unused_name() -> str:
    """For a door; nobody guesses it. The first number is for people who look into the folder."""
    return f"workers-{os.getpid()}-{secrets.token_hex(8)}"


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
        over: the scheme of the door.
        check_in_timeout: seconds for a worker to wait for the answer to its check-in.

    Attributes:
        can_kill: whether a worker can be made to end.
        launches: whether it starts workers, and does not just wait for some to come.
    """

    can_kill: ClassVar[bool] = False
    launches: ClassVar[bool] = True

    def __init__(
        self, target: Target | None, door: Port, over: str, check_in_timeout: float | None
    ) -> None:
        self._target = target
        self._door = door
        self._over = over
        self._check_in_timeout = check_in_timeout

    @staticmethod
    def check(target: Target | None) -> Target | None:
        """The target, if such workers can run it.

        Raises:
            TypeError, ValueError: why not, and what to give instead.
        """
        return check(target)

    @staticmethod
    def door_address(over: str) -> str:
        """The address for a group's door: a new one for each group."""
        return f"{over}:"

    def place(self, workers: Sequence[Worker], arrival: Arrival) -> Worker:
        """Which worker of the group it is that checks in.

        Raises:
            CheckInError: none of them, and why.
        """
        record = arrival.record
        if record.index is None:
            raise CheckInError("this group starts its workers itself, and expects no others")
        for worker in workers:
            if worker.index == record.index and worker.token == record.token:
                if worker.has_checked_in:
                    raise CheckInError(f"{worker.name} has checked in already")
                if worker._ended:
                    raise CheckInError(f"{worker.name} has ended before its check-in was read")
                return worker
        raise CheckInError(f"this group does not expect a worker {record.index} with that token")

    def admitted(self, worker: Worker, ended: Ended) -> tuple[Component, ...]:
        """The worker has checked in: what its answer holds besides the main side's port."""
        return ()

    def explain(self, worker: Worker, ending: Ending | None) -> Ending | None:
        """How the worker ended, now that its last messages were read. On the group's loop."""
        return ending

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
