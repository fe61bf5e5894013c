"""Finding the files to hash."""

from __future__ import annotations

import errno
import os
import stat
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

_NOT_STANDARD = frozenset({"site-packages", "dist-packages", "__pycache__"})


def standard_library() -> Path:
    """Where this Python's standard library is."""
    return Path(sysconfig.get_path("stdlib"))


def shown(path: Path | str) -> str:
    """A path for people: on one line and without control characters, whatever its name holds."""
    return "".join(
        [c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path)]
    )


def find_files(path: Path, on_error: Callable[[OSError], None]) -> list[Path]:
    """The regular files under ``path``, in a fixed order; symbolic links are not followed.

    In the standard library's folder, what is installed or cached there is left out.

    Args:
        path: a folder, or a file, which is then the only one.
        on_error: told of what cannot be looked at, and of a ``path`` that is no file.
    """
    if not path.is_dir():
        return [path] if _is_regular(path, on_error) else []
    skipped = _NOT_STANDARD if path == standard_library() else frozenset()
    return list(_walk(path, skipped, on_error))


def _walk(
    path: Path, skipped: frozenset[str], on_error: Callable[[OSError], None]
) -> Iterator[Path]:
    for folder, folders, names in os.walk(path, onerror=on_error):
        folders[:] = sorted(set(folders) - skipped)
        for name in sorted(names):
            file = Path(folder, name)
            try:
                if stat.S_ISREG(file.lstat().st_mode):
                    yield file
            except OSError as error:
                on_error(error)


def _is_regular(path: Path, on_error: Callable[[OSError], None]) -> bool:
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return True
        # To open a pipe waits for its other end; a device may never end.
        on_error(OSError(errno.EINVAL, "neither a folder nor a regular file", str(path)))
    except OSError as error:
        on_error(error)
    return False
