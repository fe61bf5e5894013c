"""Names on one host: records in the runtime folder, each saying which socket and which port.

A record is a small file that is replaced whole, so readers need no lock; who changes records
holds the folder's.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from portkit._arguments import check_timeout
from portkit.errors import (
    AuthenticationError,
    NameInUseError,
    NameNotFoundError,
    ReceiveTimeoutError,
    TransportError,
)
from portkit.names import check_name
from portkit_transports.message import runtime_folder
from portkit_transports.message.files import TEMPORARY, read_file, write_file
from portkit_transports.message.folder_lock import FolderLock
from portkit_transports.message.liveness import MAX_SOCKET_PATH, listener, owner_listens
from portkit_transports.message.process import outlived, same_process
from portkit_transports.message.record import (
    MAX_RECORD_BYTES,
    SOCKET_PATTERN,
    Record,
    decode,
    encode,
    file_name,
    is_record_file,
)
from portkit_transports.message.runtime_folder import VARIABLE, FolderMissingError, reporting

_SOCKET = re.compile(SOCKET_PATTERN)
_SETTLED = 1.0
"""Seconds after which what made a socket has had it listen, unless it was stopped meanwhile."""


class Directory:
    """The names of one user's ports on one host (N2, N5).

    Any thread of any process may call any method, but not a finalizer or a signal handler.
    Nothing waits for a peer; a change waits up to 2 seconds for the changes of others.

    Every method but the constructor raises ``TransportError``, naming path and remedy, where the
    folder is not safe or the system refuses.

    Args:
        path: the runtime folder; None for ``$PORTKIT_RUNTIME_DIR``, else
            ``$XDG_RUNTIME_DIR/portkit``, else ``portkit-<user's number>`` in the folder for
            temporary files. It is not touched before it is used.

    Attributes:
        path: the runtime folder, absolute.
    """

    __slots__ = ("_swept", "path")

    path: Path

    def __init__(self, path: Path | None = None) -> None:
        self.path = runtime_folder.default_path() if path is None else Path(path).absolute()
        self._swept = False

    def prepare(self) -> None:
        """Make the folder, mode 0700, unless it is there; check that it is this user's alone.

        Raises:
            TransportError: it cannot be made, is no real folder, or is not safe from others.
        """
        runtime_folder.make(self.path)
        with runtime_folder.opened(self.path):
            pass

    def new_socket_path(self) -> Path:
        """Where in the folder this process can bind a listening socket; new each time.

        Raises:
            TransportError: the path is too long for a socket.
        """
        path = self.path / f"{os.getpid()}-{secrets.token_hex(8)}.sock"
        size = len(os.fsencode(path))
        if size > MAX_SOCKET_PATH:
            raise TransportError(
                f"the path of a socket in {self.path} has {size} bytes, and the system allows "
                f"{MAX_SOCKET_PATH}: set {VARIABLE} to a folder with a shorter path"
            )
        return path

    def claim(self, record: Record) -> None:
        """Let a name stand for ``record``, whose socket listens already.

        A dead owner's name is taken over, and so is a damaged file. Claiming the same record
        again changes nothing. The first claim makes the folder and sweeps it.

        Raises:
            NameInUseError: the name stands for another port, whose owner lives (N1).
            AuthenticationError: the name's file is another user's.
            TypeError, ValueError: the record cannot be one.
        """
        check_name(record.name)
        data = encode(record)
        if not self._swept:
            self.prepare()
            self.sweep()
            self._swept = True
        entry = file_name(record.name)
        with self._changing() as folder:
            if not self._holds(folder, entry, record):
                write_file(folder, entry, data)

    def find(self, name: str) -> Record:
        """What a name stands for. Whether its owner lives shows in connecting to it.

        Raises:
            NameNotFoundError: it stands for nothing, or its file is damaged.
            AuthenticationError: the name's file is another user's.
            TypeError, ValueError: it can be no name.
        """
        entry = file_name(check_name(name))
        found = None
        with suppress(FolderMissingError), self._reading() as folder:
            found = self._read(folder, entry)
        if found is None:
            raise NameNotFoundError(
                f"nobody registered the name {name!r} in {self.path}: check its spelling, start "
                f"its owner, with the same {VARIABLE}, or wait for it"
            )
        return found

    def remove(self, record: Record) -> bool:
        """Take back a name if it still stands for exactly this record; whether it did.

        Another process's name is not removed while that lives (N2).
        """
        entry = file_name(check_name(record.name))
        if record.pid != os.getpid() and self.is_live(record):
            return False
        with suppress(FolderMissingError), self._changing() as folder:
            if self._read_trusted(folder, entry) == record:
                os.unlink(entry, dir_fd=folder)
                return True
        return False

    def names(self) -> list[str]:
        """The names of owners that live, sorted."""
        records: list[tuple[str, Record]] = []
        with suppress(FolderMissingError), self._reading() as folder:
            records = self._records(folder)
        lives = _once_per_owner(self.is_live)
        return sorted(record.name for _, record in records if lives(record))

    def wait_for(self, name: str, timeout: float | None) -> Record:
        """What a name stands for, once its owner lives.

        Args:
            name: the name.
            timeout: seconds to wait; 0 or less looks once, None waits for ever.

        Raises:
            ReceiveTimeoutError: nobody alive had the name in time.
            AuthenticationError, TypeError, ValueError: as :meth:`find`.
        """
        check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        dead: Record | None = None
        pause = 0.001
        while True:
            with suppress(NameNotFoundError):
                found = self.find(name)
                if found != dead and self.is_live(found):
                    return found
                dead = found  # for good: a new owner has a new socket
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                raise ReceiveTimeoutError(
                    f"nobody alive had the name {name!r} in {self.path} within {timeout} s: "
                    f"check its spelling, and that its owner runs with the same {VARIABLE}"
                )
            time.sleep(left)
            pause = min(1.5 * pause, 0.02)

    def is_live(self, record: Record) -> bool:
        """Whether the record's owner lives: it listens at its socket, be it stopped or busy."""
        path = self.path / record.socket
        with reporting(path, "cannot find out who listens at"):
            return owner_listens(record, path)

    def sweep(self) -> None:
        """Remove what dead owners left: names, sockets, files half written.

        A process that is seen to live keeps everything, listening or not.
        """
        with suppress(FolderMissingError), self._changing() as folder:
            lives = _once_per_owner(self._may_live)
            dead: set[str] = set()
            for entry, record in self._records(folder):
                if not lives(record):
                    os.unlink(entry, dir_fd=folder)
                    dead.add(record.socket)
            for entry in os.listdir(folder):  # noqa: PTH208 - a descriptor
                with suppress(FileNotFoundError):  # owners remove their sockets without the lock
                    if self._is_abandoned(folder, entry, dead):
                        os.unlink(entry, dir_fd=folder)

    def _may_live(self, record: Record) -> bool:
        """As :meth:`is_live`, but who is seen to live is not disturbed by connecting."""
        if record.start_time and same_process(record.pid, record.start_time):
            return True
        return self.is_live(record)

    def _is_abandoned(self, folder: int, entry: str, dead: set[str]) -> bool:
        """Whether nobody will use a file any more; ``dead`` are the sockets of dead owners."""
        found = os.stat(entry, dir_fd=folder, follow_symlinks=False)
        if found.st_uid != os.geteuid():
            return False
        if entry.startswith(TEMPORARY):
            return stat.S_ISREG(found.st_mode)  # its writer had the lock, and has it no more
        if not stat.S_ISSOCK(found.st_mode) or not _SOCKET.fullmatch(entry):
            return False
        if entry not in dead:
            age = time.time() - found.st_mtime
            pid = int(entry.partition("-")[0])
            if age < _SETTLED or not outlived(pid, found.st_mtime):
                return False  # between bind and listen it refuses connections, but lives
        return listener(self.path / entry) is None

    # Files.

    @contextmanager
    def _reading(self) -> Iterator[int]:
        with (
            runtime_folder.opened(self.path) as folder,
            reporting(self.path, "cannot read the runtime folder"),
        ):
            yield folder

    @contextmanager
    def _changing(self) -> Iterator[int]:
        with (
            runtime_folder.opened(self.path) as folder,
            reporting(self.path, "cannot change the runtime folder"),
            FolderLock(folder, self.path),
        ):
            yield folder

    def _holds(self, folder: int, entry: str, record: Record) -> bool:
        """Whether the file says ``record`` already; raises if it says what a live owner does."""
        try:
            found = self._read(folder, entry)
        except NameNotFoundError:
            return False
        if found is None or found == record:
            return found is not None
        if found.incarnation == record.incarnation:
            raise NameInUseError(
                f"another port of this process has the name {record.name!r}: pick another name, "
                "or invalidate that port first"
            )
        if self.is_live(found):
            raise NameInUseError(
                f"process {found.pid}, which lives, has the name {record.name!r}: pick another "
                f"name, or end that process; it listens at {self.path / found.socket}"
            )
        return False

    def _read(self, folder: int, entry: str) -> Record | None:
        """The record in a file, None if there is no such file.

        Raises:
            NameNotFoundError: it is damaged.
            AuthenticationError: it is another user's.
        """
        try:
            data = read_file(folder, self.path, entry, MAX_RECORD_BYTES)
        except FileNotFoundError:
            return None
        record = None if data is None else decode(data)
        if record is None or file_name(record.name) != entry:
            raise NameNotFoundError(
                f"{self.path / entry} is damaged: it says no name; have the name's owner register "
                "it again"
            )
        return record

    def _read_trusted(self, folder: int, entry: str) -> Record | None:
        """As :meth:`_read`, but None too for what is damaged or another user's."""
        try:
            return self._read(folder, entry)
        except (AuthenticationError, NameNotFoundError):
            return None

    def _records(self, folder: int) -> list[tuple[str, Record]]:
        """The files that hold a record, and the records."""
        entries = filter(is_record_file, os.listdir(folder))
        found = [(entry, self._read_trusted(folder, entry)) for entry in entries]
        return [(entry, record) for entry, record in found if record is not None]


def _once_per_owner(lives: Callable[[Record], bool]) -> Callable[[Record], bool]:
    """``lives``, asked once for all the names of an owner."""
    known: dict[tuple[str, bytes, int, int], bool] = {}

    def asked(record: Record) -> bool:
        owner = (record.socket, record.incarnation, record.pid, record.start_time)
        if owner not in known:
            known[owner] = lives(record)
        return known[owner]

    return asked
