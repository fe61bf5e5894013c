"""The numbers and names of run loops, equal to CoreFoundation's (semantics 1.1)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

DEFAULT_MODE: Final = "default"
"""The mode that :meth:`RunLoop.run` runs, and where items go unless told otherwise."""
COMMON_MODES: Final = "common"
"""Stands for every mode made common; items and blocks can be added to it, it cannot be run."""

LONGEST_TIMEOUT: Final = 504_911_232.0
"""Seconds (16 years) beyond which a time-out counts as for ever (R10)."""


class RunResult(IntEnum):
    """Why a run of the loop ended."""

    FINISHED = 1
    STOPPED = 2
    TIMED_OUT = 3
    HANDLED_SOURCE = 4


class Activity(IntFlag):
    """The points of a pass that observers are told of."""

    ENTRY = 1
    BEFORE_TIMERS = 2
    BEFORE_SOURCES = 4
    BEFORE_WAITING = 32
    AFTER_WAITING = 64
    EXIT = 128
    ALL = 0x0FFFFFFF
