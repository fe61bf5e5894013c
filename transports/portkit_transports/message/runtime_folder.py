"""The runtime folder: where the processes of one user on one host find each other."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from portkit.errors import TransportError

VARIABLE = "PORTKIT_RUNTIME_DIR"
"""The environment variable that names the folder."""

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ELSEWHERE = f"set {VARIABLE} to a folder of your own that can be written"
_REMEDIES = {
    errno.EROFS: f"its file system is read-only: {_ELSEWHERE}",
    errno.ENOSPC: f"its file system is full: free some space, or {_ELSEWHERE}",
    errno.EDQUOT: f"your quota there is used up: free some space, or {_ELSEWHERE}",
    errno.EFBIG: "files may not grow so large: raise 'ulimit -f'",
    errno.EACCES: f"permission is denied: {_ELSEWHERE}",
    errno.EPERM: f"it is not permitted: {_ELSEWHERE}",
    errno.ENOENT: f"it, or the folder it is in, does not exist: make that, or {_ELSEWHERE}",
    errno.EMFILE: "this process has too many open files: close some, or raise 'ulimit -n'",
    errno.ENFILE: "this system has too many open files: close some",
    errno.ENAMETOOLONG: f"its path is too long: set {VARIABLE} to a shorter one",
}


class FolderMissingError(TransportError):
    """There is no runtime folder: nobody has made it yet, or somebody removed it."""


def default_path() -> Path:
    """Where this user's processes meet unless they are told where.

    ``$PORTKIT_RUNTIME_DIR``, else ``$XDG_RUNTIME_DIR/portkit``, else ``portkit-<user's number>``
    in the folder for temporary files. An ``XDG_RUNTIME_DIR`` that is not this user's, as after
    ``sudo -E``, does not count.

    Raises:
        TransportError: there is no folder for temporary files either.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).absolute()
    session = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if session.is_absolute():
        with suppress(OSError):
            if session.stat().st_uid == os.geteuid():
                return session / "portkit"
    try:
        return Path(tempfile.gettempdir()).absolute() / f"portkit-{os.geteuid()}"
    except FileNotFoundError as error:
        raise TransportError(f"there is no folder for names: {error}; {_ELSEWHERE}") from error


def failure(path: Path, what: str, error: OSError) -> TransportError:
    """The error to raise where ``what`` failed at ``path``, with the remedy."""
    why = _REMEDIES.get(error.errno or 0, f"{error}; {_ELSEWHERE}")
    return TransportError(f"{what} {path}: {why}")


@contextmanager
def reporting(path: Path, what: str) -> Iterator[None]:
    """Raise as :func:`failure` what the system refuses inside the ``with``."""
    try:
        yield
    except OSError as error:
        raise failure(path, what, error) from error


def make(path: Path) -> None:
    """Make the folder, mode 0700, if it is not there. :func:`opened` says if it is safe.

    Raises:
        TransportError: it cannot be made, or others could replace it.
    """
    with reporting(path, "cannot make the runtime folder"):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            path.chmod(0o700)  # whatever the umask took
        parent = path.parent.stat()
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise TransportError(
            f"anybody could replace the runtime folder {path}: 'chmod o-w {path.parent}' or "
            f"'chmod +t {path.parent}', or {_ELSEWHERE}"
        )


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the folder inside the ``with``, once it is found to be safe.

    Raises:
        FolderMissingError: there is none.
        TransportError: it is not a folder that only this user can write.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise FolderMissingError(
            f"there is no runtime folder {path}: register a name first, or set {VARIABLE} to the "
            "folder that others use"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise failure(path, "cannot open the runtime folder", error) from error
        raise TransportError(
            f"the runtime folder {path} is a symbolic link or no folder: remove it, or set "
            f"{VARIABLE} to a real folder of your own"
        ) from error
    try:
        _check_folder(path, os.fstat(folder))
        yield folder
    finally:
        os.close(folder)


def _check_folder(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise TransportError(
            f"the runtime folder {path} belongs to user {found.st_uid}, not to {os.geteuid()}, "
            f"who runs this process: have it removed, or {_ELSEWHERE}"
        )
    if found.st_mode & OTHERS_WRITE:
        raise TransportError(
            f"others may write the runtime folder {path} (mode "
            f"{stat.S_IMODE(found.st_mode):04o}): look for what is not yours in it, then "
            f"'chmod 700 {path}'"
        )
