"""A process that ends with the one that started it: that holds the other end of a pipe."""

from __future__ import annotations

import os
from threading import Event, Thread

from portkit.workers.session import Session

GRACE = 2.0
"""Seconds for a worker to end by itself once the other process has ended."""
ORPHANED = 70
"""The exit status of a worker that did not."""


def take_standard_input() -> int:
    """The pipe under another number, not inherited; standard input then is empty."""
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return lifeline


class Guard:
    """Ends this process when the lifeline does.

    Args:
        lifeline: the reading end of a pipe, to which nothing is written any more.

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
