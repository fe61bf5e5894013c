"""Files of the runtime folder, read and written so that nobody can slip another in."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from portkit.errors import AuthenticationError
from portkit_transports.message.runtime_folder import OTHERS_WRITE

TEMPORARY = "tmp."
"""How the names of files begin that are being written. They are, under the lock alone."""


def read_file(folder: int, path: Path, entry: str, limit: int) -> bytes | None:
    """The contents of a file of this user's in the folder.

    Args:
        folder: a descriptor of the folder.
        path: the folder's path, for errors.
        entry: the file's name.
        limit: how many bytes it may have.

    Returns:
        None if it is no plain file, or over the limit.

    Raises:
        FileNotFoundError: there is none.
        AuthenticationError: another user owns it, or others may write it.
        OSError: it cannot be read.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(entry, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None  # a symbolic link, a socket
        if error.errno != errno.EACCES:
            raise
        raise AuthenticationError(
            f"{path / entry} may not be read by user {os.geteuid()}: who owns it is not trusted "
            "here; remove it if it should not be there"
        ) from error
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & OTHERS_WRITE:
            raise AuthenticationError(
                f"{path / entry} belongs to user {found.st_uid}, mode "
                f"{stat.S_IMODE(found.st_mode):04o}, and only what user {os.geteuid()} alone can "
                "write is trusted here: remove it if it should not be there"
            )
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        return os.read(fd, limit)
    finally:
        os.close(fd)


def write_file(folder: int, entry: str, data: bytes) -> None:
    """Put ``data`` into a file of the folder, mode 0600: all of it at once, or nothing.

    Called under the lock.

    Raises:
        OSError: it cannot be written.
    """
    written = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(written, flags, 0o600, dir_fd=folder)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
            os.fchmod(fd, 0o600)  # whatever the umask took
            file.write(data)
        os.rename(written, entry, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(written, dir_fd=folder)
        raise
