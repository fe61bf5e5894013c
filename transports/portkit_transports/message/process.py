"""Which process: a pid alone does not say, for pids are used again."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_start_time(pid: int) -> int:
    """When a process began, in the kernel's ticks since boot; 0 where that is unknown.

    With the pid it names a process for good. It is unknown where there is no such process, or no
    ``/proc``, as on macOS.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (OSError, ValueError):
        return 0
    fields = stat.rpartition(b")")[2].split()  # the command before it may hold anything
    return int(fields[19]) if len(fields) > 19 else 0  # field 22 of them all


def process_exists(pid: int) -> bool:
    """Whether there is a process with that number in this one's pid namespace."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # somebody else's
    except (ProcessLookupError, OverflowError):
        return False
    return True


def same_process(pid: int, start_time: int) -> bool:
    """Whether the process that had the number ``pid`` and began at ``start_time`` exists.

    Args:
        pid: its number in this process's pid namespace.
        start_time: as of :func:`process_start_time`; 0 if nobody knows.
    """
    found = process_start_time(pid) if start_time else 0
    return found == start_time if found else process_exists(pid)


def outlived(pid: int, date: float) -> bool:
    """Whether the process that had the number ``pid`` at a date is gone.

    Args:
        pid: its number in this process's pid namespace.
        date: seconds on the wall clock, as files have them.
    """
    if not process_exists(pid):
        return True
    ticks = process_start_time(pid)
    if not ticks:
        return False
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + ticks / os.sysconf("SC_CLK_TCK") > date + 1.0  # the clocks' grain
