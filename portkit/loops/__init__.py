"""Event loops that people already have, on one thread with a run loop: asyncio, Qt, Tk."""

from portkit.loops.asyncio_host import new_event_loop
from portkit.loops.qt import QtHost
from portkit.loops.tk import TkHost

__all__ = ["QtHost", "TkHost", "new_event_loop"]
