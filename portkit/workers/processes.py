"""Workers that are processes of this host."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import ClassVar

from portkit import _fork, _thread
from portkit._report import report
from portkit.link.remote_port import RemotePort
from portkit.port import Port
from portkit.workers.ending import Ending, exited
from portkit.workers.launcher import Ended, Launcher, join_all, unused_name
from portkit.workers.orders import Orders
from portkit.workers.stderr import StandardError
from portkit.workers.target import Target, check, check_not_importing
from portkit.workers.worker import Worker

_LAST_WORDS = 1.0
"""Seconds for another thread to pass on what a worker that has ended had sent."""
_LAST_READS = 64
"""How often standard error is read after the end: a child of the worker may go on writing there."""


class ProcessLauncher(Launcher):
    """Spawns a Python process for each worker, without forking this one.

    A worker ends with this process, however that ends: each holds the other end of a pipe.
    """

    can_kill: ClassVar[bool] = True

    def __init__(
        self, target: Target | None, door: Port, over: str, check_in_timeout: float | None
    ) -> None:
        super().__init__(target, door, over, check_in_timeout)
        self._running: dict[Worker, WorkerProcess] = {}

    @staticmethod
    def check(target: Target | None) -> Target:
        """The target, if a process can import it."""
        target = check(target)
        if not isinstance(target, str):
            raise TypeError(
                f"{target!r} cannot be given to another process, which would have to unpickle it: "
                "write 'module:function', and it imports the function itself"
            )
        if target.partition(":")[0] == "__main__":
            raise ValueError(
                f"{target!r}: in another process '__main__' is another program. Put the function "
                "into a module of its own, and name that"
            )
        return target

    @staticmethod
    def door_address(over: str) -> str:
        """A name that nobody guesses."""
        return f"{over}:{unused_name()}"

    def start(self, worker: Worker, ended: Ended) -> None:
        """Spawn the worker's process."""
        check_not_importing(str(self._target))
        orders = Orders(
            target=str(self._target),
            main=str(self._door.address),
            index=worker.index,
            name=worker.name,
            token=worker.token,
            check_in_timeout=self._check_in_timeout,
            path=[os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 - "" is here
            python_path=os.environ.get("PYTHONPATH"),
        )
        self._running[worker] = WorkerProcess(worker, orders, ended)

    def signal(self, worker: Worker, number: signal.Signals, why: str) -> None:
        """Send a signal."""
        process = self._running.get(worker)
        if process is not None:
            process.signal(number, why)

    def join(self, timeout: float | None) -> None:
        """Wait for the threads that saw to processes which have ended."""
        join_all(self._running.values(), timeout)


class WorkerProcess:
    """One process, and the thread that passes on its standard error and sees it end.

    Raises:
        OSError: it cannot be spawned.
    """

    def __init__(self, worker: Worker, orders: Orders, ended: Ended) -> None:
        self._worker = worker
        self._ended = ended
        self._why = ""
        # The arguments are for people who list processes; what counts is in the orders.
        command = [
            *(sys.executable, "-P", "-m", "portkit.workers.process_main"),
            *(orders.target, "--main", orders.main, "--name", orders.name),
        ]
        with _without_interrupts():
            self._process = subprocess.Popen(  # noqa: S603 - made of our own parts, without a shell
                command,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(orders.path)},
                bufsize=0,
            )
        worker.pid = self._process.pid
        _fork.close_in_child(self)
        try:
            self._tell(orders)
            self._thread = Thread(target=self._attend, name=f"{worker.name} process", daemon=True)
            self._thread.start()
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._close()
            raise

    def _tell(self, orders: Orders) -> None:
        assert self._process.stdin is not None, "it is a pipe"
        line = orders.model_dump_json().encode() + b"\n"
        fd = self._process.stdin.fileno()
        os.set_blocking(fd, False)
        try:
            written = os.write(fd, line)
        except BrokenPipeError:
            return  # it has ended already, and its status will say why
        if written < len(line):
            raise OSError(
                f"its orders are too long for a pipe, {len(line)} bytes: shorten sys.path"
            )

    def signal(self, number: signal.Signals, why: str) -> None:
        """Send a signal, unless it has ended; ``why`` goes into the error."""
        if self._process.poll() is None:
            self._why = why
            self._process.send_signal(number)

    def join(self, timeout: float | None) -> None:
        """Wait for the thread."""
        self._thread.join(timeout)

    def close_in_child(self) -> None:
        """A forked child must not hold the worker's lifeline."""
        self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stderr):
            assert pipe is not None, "it is a pipe"
            pipe.close()

    def _attend(self) -> None:
        assert self._process.stderr is not None, "it is a pipe"
        stderr = StandardError(self._process.stderr.fileno())
        try:
            _wait(self._process, stderr)
            self._read_last_words()
        except Exception as error:
            report(
                "a worker's process could not be attended to, and is killed", error, self._worker
            )
            self._process.kill()
        finally:
            self._close()
            _thread.end_current()
            self._ended(self._worker, _ending(self._process.wait(), self._why, stderr))

    def _read_last_words(self) -> None:
        """What it sent before its end is to be here before the news of its end."""
        port = self._worker._port
        if not isinstance(port, RemotePort):
            return
        port.read_all()
        read = Event()
        port.add_invalidation_handler(lambda _: read.set())
        # A process that the worker forked may keep the connection; another thread may be at it.
        read.wait(_LAST_WORDS)


def _wait(process: subprocess.Popen[bytes], stderr: StandardError) -> None:
    """Pass on standard error until the process has ended, which sees to its status as well.

    Where there are no descriptors for processes, the end of its standard error is waited for
    first, which the worker's own children may hold open.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while stderr.read():
            pass
        process.wait()
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(stderr.fd, select.POLLIN)
        reads_left = _LAST_READS
        while reads_left:
            ready = [fd for fd, _ in poll.poll()]
            if pidfd in ready:
                reads_left = reads_left - 1 if stderr.fd in ready else 0
            if stderr.fd in ready and not stderr.read():
                poll.unregister(stderr.fd)
    finally:
        os.close(pidfd)
    process.wait()


def _ending(returncode: int, why: str, stderr: StandardError) -> Ending | None:
    if returncode == 0:
        return None
    lines = stderr.last_lines()
    reason = exited(returncode)
    if returncode > 0:
        reason += f": {lines[-1]}" if lines else ""
    else:
        reason += f", as {why}" if why else ""
    if len(lines) > 1 or (lines and returncode < 0):
        reason += "\nThe last lines on its standard error:\n" + "\n".join(lines)
    return Ending(f" {reason}")


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Have a process that is spawned meanwhile begin with SIGINT blocked; it unblocks it itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
