"""What belongs to one link in one process, behind a lock."""

from __future__ import annotations

from threading import Lock

from portkit import _fork
from portkit.errors import InvalidPortError


class Guarded:
    """Shared memory of a link. A forked child has copies of it that are not its own."""

    __slots__ = ("_closed", "_generation", "_lock")

    def __init__(self) -> None:
        self._closed = False
        self._generation = _fork.generation
        self._lock = Lock()

    def _entered(self) -> Lock:
        """The lock, for ``with``, once it is sure that it is not a dead thread's.

        Raises:
            InvalidPortError: this is a forked child.
        """
        if self._generation != _fork.generation:
            raise InvalidPortError(
                "this process was forked: the link's memory is the parent's. Open a link of its own"
            )
        return self._lock

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidPortError("the link has ended; open another one")
