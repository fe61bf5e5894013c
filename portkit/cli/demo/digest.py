"""Hashing one file, and the messages about it: the protocol of the main job.

=========  =========================================  ===========
number     components                                 direction
=========  =========================================  ===========
HASH       path                                       to worker
DIGEST     path, SHA-256 (32 bytes), size (8 bytes)   to main
FAILED     path, reason                               to main
CRASH      none                                       to worker
=========  =========================================  ===========
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from portkit import InvalidPortError, PortMessage
from portkit.workers import Session

HASH = 1
DIGEST = 2
FAILED = 3
CRASH = 4

_CHUNK = 256 * 1024


class Digest(NamedTuple):
    """What a file contains, in short."""

    sha256: bytes
    size: int


def digest_file(path: Path, goes_on: Callable[[], bool] | None = None) -> Digest | None:
    """Read and hash a file.

    Args:
        path: which.
        goes_on: asked now and then; when it says no the file is given up, with None.

    Raises:
        OSError: it cannot be read.
    """
    sha256 = hashlib.sha256()
    size = 0
    chunk = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(chunk):
            sha256.update(chunk[:read])
            size += read
            if goes_on is not None and not goes_on():
                return None
    return Digest(sha256.digest(), size)


def hash_files(session: Session) -> None:
    """The workers' target: answer every HASH until told to stop."""
    session.port.delegate = lambda message: _obey(session, message)
    session.run()


def _obey(session: Session, message: PortMessage) -> None:
    if message.msgid == CRASH:
        raise SystemExit("told to crash")
    if not session.main.is_valid:
        return  # nobody waits for the answer any more
    name = message.data or b""
    try:
        digest = digest_file(Path(os.fsdecode(name)), lambda: session.main.is_valid)
    except OSError as error:
        _answer(session, FAILED, name, (error.strerror or str(error)).encode())
    else:
        if digest is not None:
            _answer(session, DIGEST, name, digest.sha256, digest.size.to_bytes(8, "big"))


def _answer(session: Session, msgid: int, *components: bytes) -> None:
    try:
        session.main.send(components, msgid=msgid, timeout=None)
    except InvalidPortError:
        pass  # the main side is gone, which also ends this worker
