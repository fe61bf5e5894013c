"""The pipe by which a port fits into event loops that are not portkit's."""

from __future__ import annotations

import warnings

from portkit._wakeup import Pipe


class Doorbell(Pipe):
    """The pipe behind ``LocalPort.fileno``; dropping a port that has one is a mistake."""

    __slots__ = ("given_up", "owner")

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner
        self.given_up = False

    def __del__(self) -> None:
        try:
            if self.read_fd >= 0 and not self.given_up:
                warnings.warn(
                    f"{self.owner} was dropped with its descriptor open: call invalidate()",
                    ResourceWarning,
                    stacklevel=2,
                )
        finally:  # where warnings are errors
            self.close_in_child()
