"""Finding the files to hash."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

_NOT_STANDARD = frozenset({"site-packages", "dist-packages", "__pycache__"})


def standard_library() -> Path:
    """Where this Python's standard library is."""
    return Path(sysconfig.get_path("stdlib"))


def find_files(path: Path, on_error: Callable[[OSError], None]) -> list[Path]:
    """The regular files under ``path``, in a fixed order; symbolic links are not followed.

    In the standard library's folder, what is installed or cached there is left out.

    Args:
        path: a folder, or a file, which is then the only one.
        on_error: told of folders that cannot be read.
    """
    if not path.is_dir():
        return [path]
    skipped = _NOT_STANDARD if path == standard_library() else frozenset()
    return list(_walk(path, skipped, on_error))


def _walk(
    path: Path, skipped: frozenset[str], on_error: Callable[[OSError], None]
) -> Iterator[Path]:
    for folder, folders, names in os.walk(path, onerror=on_error):
        folders[:] = sorted(set(folders) - skipped)
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file() and not file.is_symlink():
                yield file
