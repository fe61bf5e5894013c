"""The main side of workers: launch them, wait for their check-ins, talk to them, stop them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeAlias

from portkit._arguments import check_timeout
from portkit._report import report
from portkit.address import Address
from portkit.errors import (
    CheckInError,
    PortError,
    ReceiveTimeoutError,
    WorkerDiedError,
)
from portkit.message import Components, PortMessage
from portkit.registry import open_port
from portkit.runloop import COMMON_MODES, RunLoop
from portkit.workers.arguments import check_callbacks, check_starter, number_of_workers
from portkit.workers.broadcast import send_to_all
from portkit.workers.check_in import ACCEPTED, Arrival
from portkit.workers.door import Door, DoorAddress, door_address
from portkit.workers.ending import Ending, died, not_all_came
from portkit.workers.ends import CHECK_IN_MODE, STOP_MODE, Ends
from portkit.workers.launcher import Launcher, scheme_of_ports
from portkit.workers.launchers import launcher_over
from portkit.workers.restart import Restart
from portkit.workers.restarting import Restarting, end_overdue
from portkit.workers.stopping import await_ends, tell_to_stop
from portkit.workers.target import Target
from portkit.workers.until import Until
from portkit.workers.worker import Worker

_GRACE_AFTER_FAILED_START = 1.0
"""Seconds that workers have to end when the group could not start: its error is waited for."""

OnMessage: TypeAlias = Callable[[Worker, PortMessage], Any]
OnWorker: TypeAlias = Callable[[Worker], object]


class WorkerGroup:
    """Workers that check in, and from then on exchange messages with this side.

    A context manager: entering starts the workers and returns once all have checked in; leaving
    stops them. It belongs to the run loop of the thread that starts it, where its callbacks run.

    Args:
        target: what each worker runs: a callable taking a :class:`~portkit.workers.Session`, or
            ``"module:function"``, which other processes need. None where others start the
            workers, with ``portkit worker``: the group waits for them to come, and gives each
            place that is free to the next; to one that returns its own. Over ``socket`` and other
            transports that is so in any case, and a target is what workers have to run.
        count: how many workers; by default one for each processor.
        over: the scheme of the transport: ``mach`` makes them threads, ``message`` processes.
        address: where workers that others start check in: ``(host, port)``, or an address; by
            default one for workers of this host. See :meth:`open`.
        check_in_timeout: seconds for all of them to check in; None waits for ever.
        name: the workers' names are this and their number.
        on_message: called as ``on_message(worker, message)`` for each message from a worker; what
            it returns answers a request.
        on_worker_lost: called as ``on_worker_lost(worker)`` when a worker ends that was not told
            to stop, after its last message; ``worker.error`` says why. Without it the error goes
            to the run loop's exception handler.
        restart: when to start a lost worker again, under its number; None for never. Workers
            that others start come back without it.
        on_worker_restarted: called as ``on_worker_restarted(worker)`` when a worker that was lost
            has checked in again; ``worker.restarts`` counts.
        door: options of the transport for the port at ``address``, such as ``tls``.

    Raises:
        TypeError, ValueError: an argument is wrong.
        TransportError: there is no such transport.
    """

    def __init__(
        self,
        target: Target | None,
        *,
        count: int | None = None,
        over: str = "mach",
        address: DoorAddress | None = None,
        check_in_timeout: float | None = 5.0,
        name: str = "worker",
        on_message: OnMessage | None = None,
        on_worker_lost: OnWorker | None = None,
        restart: Restart | None = None,
        on_worker_restarted: OnWorker | None = None,
        **door: Any,
    ) -> None:
        self._launcher_type = launcher_over(over, target)
        self._target = self._launcher_type.check(target)
        count = number_of_workers(count)
        check_timeout(check_in_timeout)
        check_starter(
            launches=self._launcher_type.launches,
            restart=restart,
            door=[*door, *(["address"] if address is not None else [])],
        )
        check_callbacks(on_message, on_worker_lost, on_worker_restarted)
        self.on_message: OnMessage | None = on_message
        self.on_worker_lost: OnWorker | None = on_worker_lost
        self.on_worker_restarted: OnWorker | None = on_worker_restarted
        self._over = over
        # Here and only once: a Ctrl-C in pydantic's validation comes out as a ValidationError.
        self._address = Address(scheme=scheme_of_ports(over))
        self._door_address = door_address(
            over, address or Address.parse(self._launcher_type.door_address(over))
        )
        self._door_options = door
        self._check_in_timeout = check_in_timeout
        self._workers = tuple([Worker(index, f"{name}-{index}") for index in range(count)])
        self._missing: dict[Worker, None] = dict.fromkeys(self._workers)
        self._lost_one_missing = False
        self._running: set[Worker] = set()
        self._ends = Ends(self._lose)
        self._restarting = Restarting(restart, self._relaunch, self._overdue)
        self._loop: RunLoop | None = None
        self._door: Door | None = None
        self._launcher: Launcher | None = None
        self._started = False
        self._is_starting = False
        self._stopping = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All workers of the group, by number, also those that have ended."""
        return self._workers

    @property
    def door(self) -> Address | None:
        """Where workers check in; None before :meth:`open` and :meth:`start`."""
        return None if self._door is None else self._door.port.address

    def open(self) -> Address | None:
        """Open the door before :meth:`start`, which then goes on from there.

        For programs that tell where workers are to connect, at a port that the system picks.

        Returns:
            As :attr:`door`.

        Raises:
            PortError: the group was opened or started before; or what the transport raises.
        """
        if self._loop is not None:
            raise PortError("a group is opened and started once; make a new one")
        self._loop = self._ends.loop = RunLoop.current()
        self._door = Door(
            self._door_address,
            self._door_options,
            self._admit,
            is_for_all=not self._launcher_type.launches,
        )
        self._loop.add_port(self._door.port, COMMON_MODES)
        self._loop.add_port(self._door.port, CHECK_IN_MODE)
        self._launcher = self._launcher_type(
            self._target, self._door.port, self._over, self._check_in_timeout
        )
        return self.door

    def start(self) -> Self:
        """Start the workers, or wait for those that others start, until all have checked in.

        If one does not, all are stopped again.

        Raises:
            CheckInTimeoutError: not all checked in in time; names those missing.
            WorkerDiedError: one ended before its check-in; holds its traceback.
            PortError: the group was started before.
        """
        if self._started:
            raise PortError("a group is started once; make a new one")
        if self._loop is not None:
            self._loop._check_thread("WorkerGroup.start()")
        self._started = True
        try:
            if self._door is None:
                self.open()
            self._is_starting = True
            for worker in self._workers:
                self._launch(worker)
            self._await_check_ins()
            self._is_starting = False
        except BaseException:
            self._stop_quietly(_GRACE_AFTER_FAILED_START)
            raise
        return self

    def _launch(self, worker: Worker) -> None:
        assert self._launcher is not None, "start made it"
        try:
            if self._launcher.launches:
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
        for worker in self._missing if self._lost_one_missing else ():
            if worker.error is not None:
                raise worker.error
        if self._missing:
            raise not_all_came(self._missing, len(self._workers), self._check_in_timeout)

    def _has_started_or_failed(self) -> bool:
        return self._stopping or not self._missing or self._lost_one_missing

    def _admit(self, arrival: Arrival, message: PortMessage) -> None:
        """From the door: accept a check-in, or raise the reason to refuse it."""
        assert self._loop is not None, "the door is served by it"
        assert self._launcher is not None, "open made it"
        worker = self._launcher.place(self._workers, arrival)
        if worker.is_alive:  # it comes back before its loss was noticed
            self._ends.see_to()
            worker = self._launcher.place(self._workers, arrival)
        if self._stopping:
            raise CheckInError(f"{worker.name} checks in too late: the group is stopping")
        if worker._ended:
            worker._renew()
        main_port = open_port(self._address, lambda message: self._handle(worker, message))
        self._loop.add_port(main_port, COMMON_MODES)
        self._loop.add_port(main_port, STOP_MODE)
        worker._port, worker._control = arrival.port, arrival.control
        worker._main_port = main_port
        worker.sender = message.sender
        if worker.sender is not None:
            worker.pid = worker.sender.pid
        self._running.add(worker)
        self._missing.pop(worker, None)
        message.reply(
            (main_port, *self._launcher.admitted(worker, self._worker_ended)), msgid=ACCEPTED
        )
        if worker.restarts:
            worker.error = None
            self._restarting.done(worker)
            self._tell("on_worker_restarted", self.on_worker_restarted, worker)

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
        if self._door is not None:
            self._door.is_stopping = True
        self._restarting.cancel()
        deadline = None if timeout is None else monotonic() + timeout
        try:
            if self._launcher is not None:
                tell_to_stop(self._running, self._launcher)
            self._ends.see_to()  # a Ctrl-C may have struck when the loop was at it
            if self._running:
                self._await_ends(loop, timeout)
        finally:
            self._close(deadline)
        if self._running:
            names = ", ".join(sorted([worker.name for worker in self._running]))
            raise ReceiveTimeoutError(f"{names} did not stop within {timeout} s")

    def _await_ends(self, loop: RunLoop, timeout: float | None) -> None:
        assert self._door is not None, "open made it"
        assert self._launcher is not None, "it started them"
        if self._door.port.is_valid:
            loop.add_port(self._door.port, STOP_MODE)  # who comes late is refused, not left waiting
        await_ends(self._running, self._launcher, loop, timeout)

    def _close(self, deadline: float | None) -> None:
        """End the ports, and wait for what the ended workers leave behind."""
        if self._door is not None:
            self._door.port.invalidate()
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
        assert self._launcher is not None, "open made it"
        ending = self._launcher.explain(worker, ending)
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
            if self._launcher.launches:
                self._restarting.plan(worker)
            else:
                worker.is_restarting = True
                if self._is_starting:
                    self._missing[worker] = None  # its place is to be taken again
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
        assert self._launcher is not None, "it started the worker"
        end_overdue(worker, self._launcher, self._check_in_timeout)

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
