"""``portkit worker``: one worker, started by hand or by another program."""

from __future__ import annotations

import os
import signal
import sys

from portkit import CheckInError, PortError, TransportError
from portkit.address import Address
from portkit.registry import transport
from portkit.workers import Session
from portkit.workers.check_in import CheckIn
from portkit.workers.joining import join
from portkit.workers.target import check, resolve

TOKEN = "PORTKIT_WORKER_TOKEN"  # noqa: S105 - where the token is, not the token
"""Environment variable: what the worker proves with that the group expects it."""

ENDED = 0
FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 128 + signal.SIGINT


def run_worker(
    target: str, main: str, *, index: int, name: str | None, check_in_timeout: float
) -> int:
    """Work until the group stops this worker, or is gone.

    Args:
        target: ``module:function``; modules of the working directory are found, too.
        main: the address of the group's door.
        index: the worker's number.
        name: its name in messages; by default ``worker-`` and the number.
        check_in_timeout: seconds to wait for the group's answer.

    Returns:
        The exit status.

    Raises:
        BaseException: what the target raises.
    """
    if (here := str(os.getcwd())) not in sys.path:  # noqa: PTH109 - only its name is wanted
        sys.path.insert(0, here)
    sessions: list[Session] = []
    try:
        problem = _problem(target, main)
        if problem is not None:
            return _fail(problem, WRONG_USAGE)
        record = CheckIn(index=index, token=os.environ.get(TOKEN, ""))
        join(
            target,
            main,
            record,
            name=name or f"worker-{index}",
            check_in_timeout=check_in_timeout,
            begun=sessions.append,
        )
    except PortError as error:
        if not sessions or sessions[0].has_checked_in:
            raise
        if isinstance(error, CheckInError) and TOKEN not in os.environ:
            error.add_note(f"The group gives each worker a token: put this one's into ${TOKEN}.")
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return ENDED


def _problem(target: str, main: str) -> Exception | None:
    """What is wrong with the arguments, found out before anything is done."""
    try:
        address = Address.parse(main)
        transport(address.scheme)
        if address.scheme == "mach" or not address.target:
            raise ValueError(f"{main!r} names no port of another process: write message:NAME")
        check(target)
    except (TransportError, ValueError) as error:
        return error
    try:
        resolve(target)
    except (ImportError, AttributeError, TypeError) as error:
        return error
    return None


def _fail(error: Exception, status: int) -> int:
    notes = getattr(error, "__notes__", [])
    print("portkit worker:", " ".join([str(error), *notes]), file=sys.stderr)
    return status
