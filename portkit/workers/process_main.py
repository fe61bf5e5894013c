"""A worker's process, from its first line to its last: ``python -m portkit.workers.process_main``.

Spawned by a group. Its standard input is a pipe that the group's process holds: the first line
is its orders, and the end of the pipe is the end of that process, which this one does not outlive.
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Event, Thread

from portkit.errors import CheckInError
from portkit.workers.check_in import CheckIn
from portkit.workers.joining import join
from portkit.workers.orders import Orders
from portkit.workers.session import Session

GRACE = 2.0
"""Seconds for a worker to end by itself once its group's process has ended."""
ORPHANED = 70
"""The exit status of a worker that did not."""


def main() -> None:
    """Read the orders and obey them; ends the process."""
    # A Ctrl-C in the terminal is meant for the main side, which stops its workers. The signal was
    # blocked by who started this process, so that none strikes before here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    line = _read_line(sys.stdin.fileno())
    if not line:
        return  # the group has given up already
    orders = Orders.model_validate_json(line)
    lifeline = _take_standard_input()
    sys.path[:] = orders.path
    if orders.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = orders.python_path
    guard = _Guard(lifeline)
    try:
        join(
            orders.target,
            orders.main,
            CheckIn(index=orders.index, token=orders.token),
            name=orders.name,
            check_in_timeout=orders.check_in_timeout,
            begun=guard.watch_over,
        )
    except CheckInError as error:
        if guard.session is None or guard.session.has_checked_in:
            raise
        sys.exit(f"{orders.name}: {error}")


def _read_line(fd: int) -> bytes:
    """One line, and not a byte more: what follows is the lifeline's. Empty if it is not whole."""
    line = bytearray()
    while byte := os.read(fd, 1):
        line += byte
        if byte == b"\n":
            return bytes(line)
    return b""


def _take_standard_input() -> int:
    """The pipe under another number, not inherited; standard input then is empty."""
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return lifeline


class _Guard:
    """Ends this process when the lifeline does.

    Attributes:
        session: the worker's, once there is one.
    """

    def __init__(self, lifeline: int) -> None:
        self._lifeline = lifeline
        self.session: Session | None = None
        Thread(target=self._watch, name="portkit lifeline", daemon=True).start()

    def watch_over(self, session: Session) -> None:
        """From now on have the session stop first."""
        self.session = session

    def _watch(self) -> None:
        while os.read(self._lifeline, 4096):
            pass
        if self.session is not None:
            self.session.stop()
            Event().wait(GRACE)
        os._exit(ORPHANED)


if __name__ == "__main__":
    main()
