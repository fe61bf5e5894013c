"""The main side of workers: launch them, wait for their check-ins, talk to them, stop them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from signal import Signals
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeAlias

from portkit._arguments import check_timeout
from portkit._report import report
from portkit.address import Address
from portkit.errors import (
    CheckInError,
    CheckInTimeoutError,
    PortError,
    ReceiveTimeoutError,
    WorkerDiedError,
)
from portkit.message import Components, PortMessage
from portkit.port import Port
from portkit.registry import open_port
from portkit.runloop import COMMON_MODES, RunLoop
from portkit.workers.broadcast import send_to_all
from portkit.workers.check_in import ACCEPTED, REFUSED, STOP, read
from portkit.workers.ending import Ending, died
from portkit.workers.ends import CHECK_IN_MODE, STOP_MODE, Ends
from portkit.workers.launcher import Launcher
from portkit.workers.launchers import launcher_over
from portkit.workers.restart import Restart
from portkit.workers.restarting import Restarting
from portkit.workers.target import Target
from portkit.workers.until import Until
from portkit.workers.worker import Worker

_GRACE_AFTER_FAILED_START = 1.0
"""Seconds that workers have to end when the group could not start: its error is waited for."""
_TO_DIE = 1.0
"""Seconds of a stop's time-out at most that are kept for signals to processes."""

OnMessage: TypeAlias = Callable[[Worker, PortMessage], Any]
OnWorker: TypeAlias = Callable[[Worker], object]


class WorkerGroup:
    """Workers that check in, and from then on exchange messages with this side.

    A context manager: entering starts the workers and returns once all have checked in; leaving
    stops them. It belongs to the run loop of the thread that starts it, where its callbacks run.

    Args:
        target: what each worker runs: a callable taking a :class:`~portkit.workers.Session`, or
            ``"module:function"``, which other processes need.
        count: how many workers; by default one for each processor.
        over: the scheme of the transport: ``mach`` makes them threads, ``message`` processes.
        check_in_timeout: seconds for all of them to check in; None waits for ever.
        name: the workers' names are this and their number.
        on_message: called as ``on_message(worker, message)`` for each message from a worker; what
            it returns answers a request.
        on_worker_lost: called as ``on_worker_lost(worker)`` when a worker ends that was not told
            to stop, after its last message; ``worker.error`` says why. Without it the error goes
            to the run loop's exception handler.
        restart: when to start a lost worker again, under its number; None for never.
        on_worker_restarted: called as ``on_worker_restarted(worker)`` when such a worker has
            checked in; ``worker.restarts`` counts.

    Raises:
        TypeError, ValueError: an argument is wrong.
        TransportError: workers cannot be started over that scheme.
    """

    def __init__(
        self,
        target: Target,
        *,
        count: int | None = None,
        over: str = "mach",
        check_in_timeout: float | None = 5.0,
        name: str = "worker",
        on_message: OnMessage | None = None,
        on_worker_lost: OnWorker | None = None,
        restart: Restart | None = None,
        on_worker_restarted: OnWorker | None = None,
    ) -> None:
        self._launcher_type = launcher_over(over)
        self._target = self._launcher_type.check(target)
        if count is None:
            count = os.cpu_count() or 1
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"count must be an int, not {type(count).__name__}")
        if count < 1:
            raise ValueError(f"a group needs at least 1 worker, not {count}")
        check_timeout(check_in_timeout)
        if restart is not None and not isinstance(restart, Restart):
            raise TypeError(f"restart is a portkit.Restart, not {type(restart).__name__}")
        for callback in (on_message, on_worker_lost, on_worker_restarted):
            if callback is not None and not callable(callback):
                raise TypeError(f"a group's callbacks must be callable, not {callback!r}")
        self.on_message: OnMessage | None = on_message
        self.on_worker_lost: OnWorker | None = on_worker_lost
        self.on_worker_restarted: OnWorker | None = on_worker_restarted
        self._over = over
        # Here and only once: a Ctrl-C in pydantic's validation comes out as a ValidationError.
        self._address = Address(scheme=over)
        self._check_in_timeout = check_in_timeout
        self._workers = tuple([Worker(index, f"{name}-{index}") for index in range(count)])
        self._missing: dict[Worker, None] = dict.fromkeys(self._workers)
        self._lost_one_missing = False
        self._running: set[Worker] = set()
        self._ends = Ends(self._lose)
        self._restarting = Restarting(restart, self._relaunch, self._overdue)
        self._loop: RunLoop | None = None
        self._door: Port | None = None
        self._launcher: Launcher | None = None
        self._started = False
        self._stopping = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All workers of the group, by number, also those that have ended."""
        return self._workers

    def start(self) -> Self:
        """Start the workers and wait until all have checked in.

        If one does not, all are stopped again.

        Raises:
            CheckInTimeoutError: not all checked in in time; names those missing.
            WorkerDiedError: one ended before its check-in; holds its traceback.
            PortError: the group was started before.
        """
        if self._started:
            raise PortError("a group is started once; make a new one")
        self._started = True
        self._loop = self._ends.loop = RunLoop.current()
        try:
            self._door = open_port(self._launcher_type.door_address(self._over), self._admit)
            self._loop.add_port(self._door, COMMON_MODES)
            self._loop.add_port(self._door, CHECK_IN_MODE)
            self._launcher = self._launcher_type(
                self._target, self._door, self._over, self._check_in_timeout
            )
            for worker in self._workers:
                self._launch(worker)
            self._await_check_ins()
        except BaseException:
            self._stop_quietly(_GRACE_AFTER_FAILED_START)
            raise
        return self

    def _launch(self, worker: Worker) -> None:
        assert self._launcher is not None, "start made it"
        try:
            self._running.add(worker)
            self._launcher.start(worker, self._worker_ended)
        except BaseException as error:
            # After a Ctrl-C it may run all the same; the door is closed to it, so it is left alone.
            self._running.discard(worker)
            worker._ended = True
            if not isinstance(error, Exception):
                raise
            raise WorkerDiedError(f"{worker.name} could not be started: {error}") from error

    def _await_check_ins(self) -> None:
        assert self._loop is not None, "start set it"
        self._loop._run_until(
            CHECK_IN_MODE, self._check_in_timeout, Until(self._has_started_or_failed)
        )
        if self._stopping:
            raise CheckInError("the group was stopped by a callback while it was starting")
        for worker in self._missing:
            if worker.error is not None:
                raise worker.error
        if self._missing:
            names = ", ".join([worker.name for worker in self._missing])
            raise CheckInTimeoutError(
                f"{names} did not check in within {self._check_in_timeout} s "
                f"({len(self._missing)} of {len(self._workers)} are missing)"
            )

    def _has_started_or_failed(self) -> bool:
        return self._stopping or not self._missing or self._lost_one_missing

    def _admit(self, message: PortMessage) -> None:
        """The door's delegate: accept a check-in, or refuse it and say why."""
        try:
            arrival = read(message)
            worker = self._awaited(arrival.record.index, arrival.record.token)
        except CheckInError as error:
            if message.is_request:
                message.reply(str(error).encode(), msgid=REFUSED)
            if not self._stopping:
                report("a check-in was refused", error, message)
            return
        main_port = open_port(self._address, lambda message: self._handle(worker, message))
        assert self._loop is not None, "the door is served by it"
        self._loop.add_port(main_port, COMMON_MODES)
        self._loop.add_port(main_port, STOP_MODE)
        worker._port, worker._control = arrival.port, arrival.control
        worker._main_port = main_port
        self._missing.pop(worker, None)
        message.reply(main_port, msgid=ACCEPTED)
        if worker.restarts:
            worker.error = None
            self._restarting.done(worker)
            self._tell("on_worker_restarted", self.on_worker_restarted, worker)

    def _awaited(self, index: int, token: str) -> Worker:
        for worker in self._workers:
            if worker.index == index and worker.token == token:
                if worker.has_checked_in:
                    raise CheckInError(f"{worker.name} has checked in already")
                if worker._ended:
                    raise CheckInError(f"{worker.name} has ended before its check-in was read")
                if self._stopping:
                    raise CheckInError(f"{worker.name} checks in too late: the group is stopping")
                return worker
        raise CheckInError(f"this group does not expect a worker {index} with that token")

    def _handle(self, worker: Worker, message: PortMessage) -> Any:
        if self.on_message is None:
            raise PortError(
                f"a message from {worker.name} was dropped: the group has no on_message"
            )
        return self.on_message(worker, message)

    def broadcast(
        self, components: Components = (), *, msgid: int = 0, timeout: float | None = 5.0
    ) -> list[Worker]:
        """Send a message to every worker that is alive.

        Args:
            components: one component or an iterable of them.
            msgid: what the message means.
            timeout: seconds for all of them together; each gets one try at least.

        Returns:
            The workers that the message went to.

        Raises:
            SendTimeoutError: some had no room in time; the others have the message.
            LoopEndedError: the group was started before this process was forked.
        """
        if self._loop is not None:
            self._loop._check_fork()  # else it would seem that every worker is just ending
        return send_to_all(self._workers, components, msgid, timeout)

    def stop(self, timeout: float | None = 5.0) -> None:
        """Have the workers finish what was sent to them, and end; wait for that.

        Their last messages are handled meanwhile. Idempotent.

        Raises:
            WrongThreadError: this is not the thread that started the group.
            ReceiveTimeoutError: some did not end within ``timeout`` seconds; names them.
        """
        check_timeout(timeout)
        loop = self._loop
        if loop is None:
            return
        loop._check_thread("WorkerGroup.stop()")
        self._stopping = True
        self._restarting.cancel()
        deadline = None if timeout is None else monotonic() + timeout
        try:
            self._tell_stop(self._running)
            self._ends.see_to()  # a Ctrl-C may have struck when the loop was at it
            if self._running:
                self._await_ends(loop, timeout)
        finally:
            self._close(deadline)
        if self._running:
            names = ", ".join(sorted([worker.name for worker in self._running]))
            raise ReceiveTimeoutError(f"{names} did not stop within {timeout} s")

    def _tell_stop(self, workers: Iterable[Worker]) -> None:
        for worker in workers:
            if worker._control is None:
                assert self._launcher is not None, "it started them"
                self._launcher.signal(worker, Signals.SIGTERM, "it was stopped before its check-in")
                continue
            try:
                worker._control.send(msgid=STOP, timeout=0)
            except PortError:
                pass  # it is ending by itself, or was told before

    def _await_ends(self, loop: RunLoop, timeout: float | None) -> None:
        assert self._door is not None, "start made it"
        assert self._launcher is not None, "it started them"
        if self._door.is_valid:
            loop.add_port(self._door, STOP_MODE)  # late check-ins are refused, not left waiting
        ended = Until(lambda: not self._running)
        if not self._launcher.can_kill or timeout is None or timeout <= 0:
            loop._run_until(STOP_MODE, timeout, ended)
            return
        to_die = min(_TO_DIE, timeout / 2)
        why = f"it did not end within {timeout - to_die:g} s of being told to"
        loop._run_until(STOP_MODE, timeout - to_die, ended)
        for number in (Signals.SIGTERM, Signals.SIGKILL):
            for worker in list(self._running):
                self._launcher.signal(worker, number, why)
            loop._run_until(STOP_MODE, to_die / 2, ended)

    def _close(self, deadline: float | None) -> None:
        """End the ports, and wait for what the ended workers leave behind."""
        if self._door is not None:
            self._door.invalidate()
        for worker in self._workers:
            if worker._main_port is not None:
                worker._main_port.invalidate()
        if self._launcher is not None and not self._running:
            self._launcher.join(None if deadline is None else max(0.1, deadline - monotonic()))

    def _stop_quietly(self, timeout: float = 5.0) -> None:
        """Stop because of an error that is on its way: that one is to be seen."""
        try:
            self.stop(timeout)
        except PortError as error:
            report("stopping workers failed", error, self)

    def _worker_ended(self, worker: Worker, ending: Ending | None) -> None:
        """From the launcher, on any thread."""
        self._ends.put(worker, ending)

    def _lose(self, worker: Worker, ending: Ending | None) -> None:
        self._running.discard(worker)
        worker._ended = True
        worker.error = died(worker, ending)
        if not worker.has_checked_in:
            worker.error = worker.error or WorkerDiedError(
                f"{worker.name} ended without checking in"
            )
        if worker in self._missing:
            self._lost_one_missing = True
        elif not self._stopping:
            self._restarting.plan(worker)
            self._tell_lost(worker)
        elif worker.error is not None and worker.has_checked_in:
            self._tell_lost(worker)

    def _tell_lost(self, worker: Worker) -> None:
        if self.on_worker_lost is None and worker.error is not None:
            report("a worker died", worker.error, worker)
        self._tell("on_worker_lost", self.on_worker_lost, worker)

    def _tell(self, what: str, callback: OnWorker | None, worker: Worker) -> None:
        if callback is not None:
            try:
                callback(worker)
            except Exception as failure:
                report(f"{what} raised", failure, worker)

    def _relaunch(self, worker: Worker) -> None:
        """Its pause is over: start it again."""
        worker._renew()
        try:
            self._launch(worker)
        except WorkerDiedError as error:
            worker.error = error
            self._restarting.started(worker, None)
            self._restarting.plan(worker)
            self._tell_lost(worker)
        else:
            self._restarting.started(worker, self._check_in_timeout)

    def _overdue(self, worker: Worker) -> None:
        """It was started again, and did not check in in time."""
        assert self._launcher is not None, "it started the worker"
        if worker.has_checked_in or worker._ended:
            return
        missed = f"did not check in within {self._check_in_timeout} s"
        if self._launcher.can_kill:
            self._launcher.signal(worker, Signals.SIGKILL, f"it {missed}")
        else:
            report(
                "a worker that was started again is late",
                CheckInTimeoutError(f"{worker.name} {missed}"),
                worker,
            )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            self.stop()
        else:
            self._stop_quietly()

    def __repr__(self) -> str:
        alive = sum(worker.is_alive for worker in self._workers)
        return f"<WorkerGroup over {self._over}: {alive} of {len(self._workers)} workers alive>"
