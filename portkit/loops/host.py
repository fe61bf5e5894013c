"""What the event loops of window systems have in common as hosts of a run loop."""

from __future__ import annotations

import math
import signal
from abc import ABC, abstractmethod
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import NoReturn, Self

from portkit.runloop import DEFAULT_MODE, GuestRun, RunLoop

_LONGEST = 3600.0
"""Seconds to sleep at most: such timers count milliseconds in an int. Waking early does no harm."""


class Host(ABC):
    """Has a window system's event loop run a mode of this thread's run loop.

    Args:
        mode: which.
    """

    def __init__(self, mode: str = DEFAULT_MODE) -> None:
        self._mode = mode
        self._error: BaseException | None = None
        self._catches_interrupt = False
        self._run: GuestRun = RunLoop.current().start_guest_run(mode, stopped=self._leave)
        self._fd: int | None = self._run.fileno()
        try:
            self._watch(self._fd)
            self._wake_after(0)
            self._catches_interrupt = (
                current_thread() is main_thread()
                and signal.getsignal(signal.SIGINT) is signal.default_int_handler
            )
            if self._catches_interrupt:
                signal.signal(signal.SIGINT, self._interrupt)
        except BaseException:
            self._run.end()
            raise

    def close(self) -> None:
        """Serve the run loop no more. Idempotent."""
        self._ignore()
        self._run.end()
        if self._catches_interrupt:
            self._catches_interrupt = False
            if signal.getsignal(signal.SIGINT) == self._interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    @abstractmethod
    def _watch(self, fd: int) -> None:
        """Have :meth:`_process` called while the descriptor is readable."""

    @abstractmethod
    def _unwatch(self, fd: int) -> None:
        """No more, nor after a time."""

    @abstractmethod
    def _wake_after(self, milliseconds: int | None) -> None:
        """Have :meth:`_process` called once, then; None: not at all. Replaces the last one."""

    @abstractmethod
    def _quit(self) -> None:
        """Have the event loop return."""

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # Raised just here it would strike some callback of the window system, which only prints it.
        RunLoop.main().perform(_raise_interrupt, modes=self._mode)

    def _ignore(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            self._unwatch(fd)

    def _leave(self) -> None:
        self._ignore()
        self._quit()

    def _process(self) -> None:
        if self._fd is None:
            return  # what was on its way when that ended
        try:
            delay = self._run.process()
        except BaseException as error:
            # What leaves a run has to leave the event loop, which would only print it.
            self._error = error
            self._leave()
            return
        if self._fd is not None:
            self._wake_after(None if delay is None else math.ceil(min(delay, _LONGEST) * 1000))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        error, self._error = self._error, None
        if error is not None and exc is None:
            raise error


def _raise_interrupt() -> NoReturn:
    raise KeyboardInterrupt
