"""A worker's standard error: shown on this process's, and its last lines kept for the error."""

from __future__ import annotations

import os
import sys

LINES = 40
"""How many of the last lines an error holds."""
_KEPT = 16 * 1024


class StandardError:
    """The reading end.

    Args:
        fd: of the pipe; stays the caller's.
    """

    __slots__ = ("_kept", "fd")

    def __init__(self, fd: int) -> None:
        self.fd: int = fd
        self._kept = b""

    def read(self) -> bool:
        """Wait for some of it and pass it on; False at its end."""
        data = os.read(self.fd, 65536)
        _show(data)
        self._kept = (self._kept + data)[-_KEPT:]
        return bool(data)

    def last_lines(self) -> list[str]:
        """The last lines, without blank ones."""
        lines = self._kept.decode(errors="backslashreplace").splitlines()
        return [line.rstrip() for line in lines if line.strip()][-LINES:]


def _show(data: bytes) -> None:
    """Write on standard error: not through ``sys.stderr``, whose lock may outlive this thread."""
    if sys.__stderr__ is None:  # the process was started without one
        return
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(2, view) :]
    except OSError:
        pass  # nobody reads it any more
