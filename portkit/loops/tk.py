"""Tk as the host of a run loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.loops.host import Host
from portkit.runloop import DEFAULT_MODE

if TYPE_CHECKING:
    import tkinter as tk


class TkHost(Host):
    """Has Tk's event loop run a mode of this thread's run loop.

    Make one on the thread of ``mainloop``, best in a ``with`` around it: leaving it ends it, and
    raises what left the run loop, such as a ``KeyboardInterrupt`` in a callback, which quits
    ``mainloop``. So does ``RunLoop.stop()``, without an exception.

    Args:
        root: the application's ``tkinter.Tk``, or any widget of it.
        mode: what to run.

    Raises:
        PortError: the mode has a guest run already.
    """

    def __init__(self, root: tk.Misc, mode: str = DEFAULT_MODE) -> None:
        self._root = root
        self._timer: str | None = None
        super().__init__(mode)

    def _watch(self, fd: int) -> None:
        import tkinter as tk  # noqa: PLC0415 - not every Python has it; who has a root does

        self._root.tk.createfilehandler(fd, tk.READABLE, self._readable)

    def _readable(self, fd: int, mask: int) -> None:
        self._process()

    def _unwatch(self, fd: int) -> None:
        self._root.tk.deletefilehandler(fd)
        self._wake_after(None)

    def _wake_after(self, milliseconds: int | None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._root.after_cancel(timer)
        if milliseconds is not None:
            self._timer = self._root.after(milliseconds, self._process)

    def _quit(self) -> None:
        self._root.quit()
