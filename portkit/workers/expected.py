"""Workers that others start, here or on other hosts: a group waits for them to come.

Who may come is for the door's transport to say: a name in the user's own folder, a certificate, a
key. A place is free until somebody has taken it, and again when that worker was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import compare_digest
from signal import Signals
from typing import ClassVar

from portkit.errors import CheckInError, PortError
from portkit.link import service
from portkit.message import Component
from portkit.port import Port
from portkit.registry import open_port
from portkit.workers.check_in import Arrival, Place
from portkit.workers.ending import Ending, told
from portkit.workers.launcher import Ended, Launcher, scheme_of_ports, unused_name
from portkit.workers.loss import what_became_of
from portkit.workers.target import Target, check
from portkit.workers.worker import Worker


class ExpectedLauncher(Launcher):
    """Starts nothing, and gives places to those who come."""

    launches: ClassVar[bool] = False

    def __init__(
        self, target: Target | None, door: Port, over: str, check_in_timeout: float | None
    ) -> None:
        super().__init__(target, door, over, check_in_timeout)
        self._members: dict[Worker, _Member] = {}

    @staticmethod
    def check(target: Target | None) -> Target | None:
        """None, or what workers have to run by name; others are refused then."""
        if target is None:
            return None
        if not isinstance(check(target), str):
            raise TypeError(
                f"{target!r} cannot be given to workers that others start: name what they run, as "
                "'module:function', or write None"
            )
        return target

    @staticmethod
    def door_address(over: str) -> str:
        """A name or a number that is not used, for workers of this host."""
        return f"{over}:{unused_name() if over == 'message' else '//127.0.0.1:0'}"

    def place(self, workers: Sequence[Worker], arrival: Arrival) -> Worker:
        """The place of a worker that comes back, else the next that is free."""
        record = arrival.record
        if record.index is not None:
            raise CheckInError(
                "this group gives each worker its number: come without one, and without a token"
            )
        if self._target is not None and record.target != self._target:
            raise CheckInError(
                f"the workers of this group run {self._target!r}, not {record.target!r}"
            )
        if not arrival.port.is_valid:
            raise CheckInError("the worker that checked in has ended")
        for worker in workers:
            if worker.has_checked_in and _same(worker.token, record.token):
                if worker.is_alive:
                    # The worker found out that the connection is dead before this side did.
                    self._members[worker].end(" it came back over another connection")
                return worker
        for is_free in (_is_new, _was_lost):
            for worker in workers:
                if is_free(worker):
                    return worker
        raise CheckInError(f"all places of this group are taken: it has {len(workers)}")

    def admitted(self, worker: Worker, ended: Ended) -> tuple[Component, ...]:
        """From now on watch for its end."""
        member = self._members[worker] = _Member(worker, ended, scheme_of_ports(self._over))
        place = Place(index=worker.index, name=worker.name, token=worker.token)
        return member.farewell, place.model_dump_json().encode()

    def explain(self, worker: Worker, ending: Ending | None) -> Ending | None:
        """What it said itself, else what became of its connection."""
        member = self._members.pop(worker, None)
        return ending if member is None else member.ending()

    def start(self, worker: Worker, ended: Ended) -> None:
        """Nothing: others do."""

    def signal(self, worker: Worker, number: Signals, why: str) -> None:
        """Nothing: its process may be on another host."""

    def join(self, timeout: float | None) -> None:
        """Nothing is left behind."""


def _same(token: str, other: str) -> bool:
    return compare_digest(token.encode(), other.encode())


def _is_new(worker: Worker) -> bool:
    return not worker.has_checked_in


def _was_lost(worker: Worker) -> bool:
    return not worker.is_alive


class _Member:
    """A worker that has come, watched for its end.

    Attributes:
        farewell: the port that the worker tells of its end.
    """

    __slots__ = ("_port", "_tell", "_why", "farewell")

    def __init__(self, worker: Worker, ended: Ended, scheme: str) -> None:
        assert worker._port is not None, "it has checked in"
        self.farewell: Port = open_port(f"{scheme}:", queue_limit=1)
        self._port = worker._port
        self._why = ""
        self._tell: list[Callable[[], None]] = [lambda: ended(worker, None)]
        # There, for this loop may be in a mode that performs nothing for others.
        self._port.add_invalidation_handler(lambda _: self.end(), loop=service.loop())

    def end(self, why: str = "") -> None:
        """It has ended, as far as this side is concerned. Any thread; counts once."""
        try:
            tell = self._tell.pop()
        except IndexError:
            return
        self._why = why
        tell()

    def ending(self) -> Ending | None:
        """How; None for a good end."""
        try:
            # It came before the end of the port, where it came at all.
            return told(self.farewell.receive(timeout=0).data or b"")
        except PortError:
            return Ending(self._why or what_became_of(self._port))
        finally:
            self.farewell.invalidate()
