"""Run loops: modes, input sources, timers, observers, performed calls."""

from portkit.runloop.constants import COMMON_MODES, DEFAULT_MODE, Activity, RunResult
from portkit.runloop.descriptor import DescriptorSource, Ready
from portkit.runloop.guest import GuestRun
from portkit.runloop.loop import RunLoop
from portkit.runloop.observer import Observer
from portkit.runloop.source import InputSource
from portkit.runloop.thread_data import ThreadData
from portkit.runloop.timer import Timer

__all__ = [
    "COMMON_MODES",
    "DEFAULT_MODE",
    "Activity",
    "DescriptorSource",
    "GuestRun",
    "InputSource",
    "Observer",
    "Ready",
    "RunLoop",
    "RunResult",
    "ThreadData",
    "Timer",
]
