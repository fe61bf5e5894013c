"""How a worker ended, and the error that tells of it."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Collection
from typing import NamedTuple

from portkit.errors import CheckInTimeoutError, WorkerDiedError
from portkit.workers.worker import Worker

_LONGEST_FAREWELL = 16 * 1024


class Ending(NamedTuple):
    """An end that is not as it should be.

    Attributes:
        text: what follows on "NAME died after its check-in:", white space included.
        cause: what was raised, where it was in this process.
    """

    text: str
    cause: BaseException | None = None


def raised(error: BaseException | None) -> Ending | None:
    """The end of a worker whose target raised that in this process; None for a good end."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return None
    return Ending("\n" + "".join(traceback.format_exception(error)).rstrip(), error)


def exited(returncode: int) -> str:
    """How a process ended, by what ``subprocess`` says of it: a status, or minus a signal."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def farewell(error: BaseException | None) -> bytes:
    """What a worker tells a group that did not start it; empty for a good end."""
    if isinstance(error, KeyboardInterrupt):
        return b" it was interrupted"
    ending = raised(error)
    return b"" if ending is None else ending.text.encode(errors="replace")[-_LONGEST_FAREWELL:]


def told(words: bytes) -> Ending | None:
    """The end that a worker told of; from another host, so it may be anything."""
    text = words[-_LONGEST_FAREWELL:].decode(errors="replace")
    printable = [c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text]
    return Ending("".join(printable)) if text else None


def died(worker: Worker, ending: Ending | None) -> WorkerDiedError | None:
    """The error for the worker's end; None for a good one."""
    if ending is None:
        return None
    checked_in = "after" if worker.has_checked_in else "before"
    error = WorkerDiedError(f"{worker.name} died {checked_in} its check-in:{ending.text}")
    error.__cause__ = ending.cause
    return error


def not_all_came(
    missing: Collection[Worker], count: int, timeout: float | None
) -> CheckInTimeoutError:
    """The error that names those of ``count`` workers that did not check in in time."""
    names = ", ".join([worker.name for worker in missing])
    return CheckInTimeoutError(
        f"{names} did not check in within {timeout} s ({len(missing)} of {count} are missing)"
    )
