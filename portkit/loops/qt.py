"""Qt as the host of a run loop: PySide6, or PyQt6 where that is what the program uses."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from portkit.loops.host import Host
from portkit.runloop import DEFAULT_MODE

_BINDINGS = ("PySide6", "PyQt6")


class QtHost(Host):
    """Has Qt's event loop run a mode of this thread's run loop.

    Make one on the thread of the ``QApplication`` before its ``exec``, best in a ``with``: leaving
    it ends it, and raises what left the run loop, such as a ``KeyboardInterrupt`` in a callback,
    which quits the application. So does ``RunLoop.stop()``, without an exception. Nested event
    loops of Qt, those of dialogues, go on serving the run loop.

    Args:
        mode: what to run.

    Raises:
        ImportError: neither PySide6 nor PyQt6 is there.
        RuntimeError: there is no QCoreApplication yet.
        PortError: the mode has a guest run already.
    """

    def __init__(self, mode: str = DEFAULT_MODE) -> None:
        self._qt = qt = _core()
        if qt.QCoreApplication.instance() is None:
            raise RuntimeError("make the QApplication first: its event loop is to run the run loop")
        self._notifier: Any = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setTimerType(qt.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._process)
        super().__init__(mode)

    def _watch(self, fd: int) -> None:
        self._notifier = self._qt.QSocketNotifier(fd, self._qt.QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._process)

    def _unwatch(self, fd: int) -> None:
        self._timer.stop()
        self._notifier.setEnabled(False)
        self._notifier.activated.disconnect(self._process)

    def _wake_after(self, milliseconds: int | None) -> None:
        if milliseconds is None:
            self._timer.stop()
        else:
            self._timer.start(milliseconds)

    def _quit(self) -> None:
        self._qt.QCoreApplication.quit()


def _core() -> Any:
    """QtCore of the binding that the program has imported, else of the first that is there."""
    imported = [name for name in _BINDINGS if name in sys.modules]
    for name in imported or _BINDINGS:
        try:
            return importlib.import_module(f"{name}.QtCore")
        except ModuleNotFoundError:
            continue
    raise ImportError('QtHost needs PySide6 (or PyQt6): pip install "portkit[qt]"')
