"""Files of pre-shared keys, which nobody else may read."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from portkit.errors import AuthenticationError, TransportError

MAX_FILE = 4096
"""Bytes of such a file."""


def read(path: Path) -> bytes:
    """The contents of a file that nobody else can read.

    Raises:
        AuthenticationError: others can.
        TransportError: it is not such a file.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hold us up
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE:
            raise TransportError(
                f"{path} holds no pre-shared key: it is no plain file of up to {MAX_FILE} bytes"
            )
        if found.st_uid not in (os.geteuid(), 0):
            raise AuthenticationError(
                f"the pre-shared key {path} belongs to user {found.st_uid}, who knows it then: use "
                f"one of user {os.geteuid()}'s own"
            )
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise AuthenticationError(
                f"others may have read the pre-shared key {path} (mode "
                f"{stat.S_IMODE(found.st_mode):04o}): make a new one, or 'chmod 600 {path}' if "
                "nobody else has been on this host"
            )
        return os.read(fd, MAX_FILE)
    finally:
        os.close(fd)


def write(path: Path, data: bytes) -> None:
    """Make the file with all of ``data``, for this user alone.

    Raises:
        OSError: it cannot be made; FileExistsError where there is one.
    """
    written = path.with_name(f".{secrets.token_hex(8)}.tmp")
    fd = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
            os.fchmod(fd, 0o600)  # whatever the umask took
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.link(written, path)  # unlike a rename it replaces nothing
    finally:
        with suppress(OSError):
            written.unlink()
