"""Workers that are threads of this process."""

from __future__ import annotations

from functools import partial
from signal import Signals
from threading import Thread

from portkit import _thread
from portkit.port import Port
from portkit.workers.check_in import CheckIn
from portkit.workers.ending import raised
from portkit.workers.joining import work
from portkit.workers.launcher import Ended, Launcher, join_all
from portkit.workers.target import Target
from portkit.workers.worker import Worker


class ThreadLauncher(Launcher):
    """Starts each worker on a thread of its own.

    A thread cannot be killed: one that hangs stays behind, as a daemon that does not keep the
    process from ending.
    """

    def __init__(
        self, target: Target | None, door: Port, over: str, check_in_timeout: float | None
    ) -> None:
        super().__init__(target, door, over, check_in_timeout)
        self._threads: dict[Worker, Thread] = {}

    def start(self, worker: Worker, ended: Ended) -> None:
        """Start the worker's thread."""
        thread = Thread(target=self._run, args=(worker, ended), name=worker.name, daemon=True)
        thread.start()
        self._threads[worker] = thread

    def signal(self, worker: Worker, number: Signals, why: str) -> None:
        """Nothing: a signal would reach the whole process."""

    def join(self, timeout: float | None) -> None:
        """Wait for threads that have reported their end to be gone."""
        join_all(self._threads.values(), timeout)

    def _run(self, worker: Worker, ended: Ended) -> None:
        error: BaseException | None = None
        for step in (partial(self._work, worker), _thread.end_current):
            try:
                step()
            except BaseException as failure:  # SystemExit ends a thread as well
                error = error or failure
        ended(worker, raised(error))

    def _work(self, worker: Worker) -> None:
        assert self._target is not None, "check has seen it"
        work(
            self._target,
            self._door,
            CheckIn(index=worker.index, token=worker.token),
            name=worker.name,
            over=self._over,
            check_in_timeout=self._check_in_timeout,
        )
