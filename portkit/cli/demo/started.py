"""Workers' processes that the demo starts itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from portkit import CheckInError, RunLoop, Timer, WorkerDiedError
from portkit.workers import WorkerGroup
from portkit.workers.ending import exited
from portkit.workers.ends import CHECK_IN_MODE

_LOOK = 0.2
"""Seconds between looks whether all of them still run."""
_TO_END = 5.0
"""Seconds for a worker's process to end, before it is killed."""


@contextmanager
def started(
    group: WorkerGroup, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[None]:
    """A process for each worker of a group that waits for them; all have ended afterwards.

    Args:
        group: its door is open; it is started, and stopped, meanwhile.
        command: of each process, which ends when its standard input does.
        environment: of each process.

    Raises:
        WorkerDiedError: one ended before all had checked in; nobody would take its place.
    """
    processes: list[subprocess.Popen[bytes]] = []
    early: list[str] = []

    def look(timer: Timer) -> None:
        early.extend([exited(p.returncode) for p in processes if p.poll() is not None])
        if early:
            timer.invalidate()
            group.stop()  # it is waiting for its check-ins, and raises

    with ExitStack() as stack:
        stack.callback(group.stop)
        for _ in group.workers:
            # In a process group of its own: a Ctrl-C in the terminal is for this process alone.
            process = subprocess.Popen(  # noqa: S603 - made of our own parts, without a shell
                command, stdin=subprocess.PIPE, env=environment, process_group=0
            )
            processes.append(process)
            stack.callback(_see_end, process)
        looking = Timer(_LOOK, look, repeats=True)
        stack.callback(looking.invalidate)
        RunLoop.current().add_timer(looking, CHECK_IN_MODE)
        try:
            yield
        except CheckInError as error:
            if not early:
                raise
            raise WorkerDiedError(
                f"a worker's process ended before all had checked in: {early[0]}"
            ) from error


def _see_end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None, "it is a pipe"
    try:
        process.stdin.close()
        process.wait(_TO_END)
    except BaseException as error:
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
