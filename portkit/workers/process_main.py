"""A worker's process, from its first line to its last: ``python -m portkit.workers.process_main``.

Spawned by a group. Its standard input is a pipe that the group's process holds: the first line
is its orders, and the end of the pipe is the end of that process, which this one does not outlive.
"""

from __future__ import annotations

import os
import signal
import sys

from portkit.errors import CheckInError
from portkit.workers.check_in import CheckIn
from portkit.workers.joining import join
from portkit.workers.lifeline import Guard, take_standard_input
from portkit.workers.orders import Orders


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
    lifeline = take_standard_input()
    sys.path[:] = orders.path
    if orders.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = orders.python_path
    guard = Guard(lifeline)
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


if __name__ == "__main__":
    main()
