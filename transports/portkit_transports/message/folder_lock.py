"""The lock under which the runtime folder changes."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from portkit import _fork
from portkit.errors import TransportError

LOCK_TIMEOUT = 2.0
"""Seconds that a change waits for the changes of others."""

_LOCK = "lock"


class FolderLock:
    """What one process and thread at a time holds to change the folder.

    The kernel releases it when its holder dies; readers need none.

    Args:
        folder: a descriptor of the folder.
        path: its path, for errors.
    """

    __slots__ = ("__weakref__", "_fd", "_folder", "_path")

    def __init__(self, folder: int, path: Path) -> None:
        self._folder = folder
        self._path = path / _LOCK
        self._fd: int | None = None
        _fork.close_in_child(self)  # a child's copy would keep the lock after its holder's death

    def __enter__(self) -> Self:
        deadline = time.monotonic() + LOCK_TIMEOUT
        pause = 0.0005
        try:
            while not self._acquired():
                if time.monotonic() > deadline:
                    raise TransportError(
                        f"another process has held the lock {self._path} for {LOCK_TIMEOUT} s: "
                        f"see who with 'fuser {self._path}', then continue or end it"
                    )
                time.sleep(pause)
                pause = min(2 * pause, 0.01)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()

    def close_in_child(self) -> None:
        """Close a forked child's copy of the descriptor; the parent keeps the lock."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _acquired(self) -> bool:
        if self._fd is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._fd = os.open(_LOCK, flags, 0o600, dir_fd=self._folder)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        mine = os.fstat(self._fd)
        try:
            current = os.stat(_LOCK, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            current = None
        if current is None or not os.path.samestat(mine, current):
            self._release()  # somebody tidied up: the next one locks another file
            return False
        if stat.S_IMODE(mine.st_mode) != 0o600:
            os.fchmod(self._fd, 0o600)  # whatever the umask took
        return True

    def _release(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_UN)  # for a copy that a child has not closed yet
            finally:
                os.close(fd)
