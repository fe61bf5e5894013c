"""Files that are put in place whole, and never over others unless that is wanted."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from portkit.cli.certs.errors import CertsError


class NewFile(NamedTuple):
    """A file to write.

    Attributes:
        path: where.
        data: what is in it.
        mode: who may read and write it.
    """

    path: Path
    data: bytes
    mode: int


def make_folder(path: Path) -> None:
    """Make the folder, for this user alone, if it is not there.

    Raises:
        CertsError: it cannot be made, or anybody could change what is in it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise failed(f"cannot make the folder {path}", error) from error
    if found.st_mode & stat.S_IWOTH:
        raise CertsError(
            f"anybody could replace what is in {path}: 'chmod o-w {path}', or take another folder"
        )


def failed(what: str, error: OSError) -> CertsError:
    """The error to raise where the system refused ``what``."""
    return CertsError(
        f"{what}: {error.strerror or error}: take another folder, or see that this user may read "
        "and write it and that there is room"
    )


def write_all(files: Sequence[NewFile], *, replace: bool) -> None:
    """Write all of ``files``, or none where one cannot be written.

    Args:
        files: what to write.
        replace: whether files that are there may be replaced.

    Raises:
        FileExistsError: one is there, and ``replace`` is false.
        OSError: one cannot be written; ``filename`` says which.
    """
    with ExitStack() as undo:
        written = [_write(file, undo) for file in files]
        if not replace:
            for file in files:  # nobody else can take its place from here on
                os.close(os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode))
                undo.callback(_remove, file.path)
        for file, temporary in zip(files, written, strict=True):
            temporary.rename(file.path)
        undo.pop_all()


def _write(file: NewFile, undo: ExitStack) -> Path:
    temporary = file.path.with_name(f".{file.path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, file.mode)
    undo.callback(_remove, temporary)
    with open(fd, "wb") as stream:  # noqa: PTH123 - a descriptor
        os.fchmod(fd, file.mode)  # whatever the umask took
        stream.write(file.data)
        stream.flush()
        os.fsync(fd)
    return temporary


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
