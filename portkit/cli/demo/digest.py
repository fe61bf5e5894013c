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
from pathlib import Path
from typing import NamedTuple

from portkit import PortMessage
from portkit.workers import Session

HASH = 1
DIGEST = 2
FAILED = 3
CRASH = 4


class Digest(NamedTuple):
    """What a file contains, in short."""

    sha256: bytes
    size: int


def digest_file(path: Path) -> Digest:
    """Read and hash a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
        return Digest(sha256, file.tell())


def hash_files(session: Session) -> None:
    """The workers' target: answer every HASH until told to stop."""
    session.port.delegate = lambda message: _obey(session, message)
    session.run()


def _obey(session: Session, message: PortMessage) -> None:
    if message.msgid == CRASH:
        raise SystemExit("told to crash")
    name = message.data or b""
    try:
        digest = digest_file(Path(os.fsdecode(name)))
    except OSError as error:
        reason = error.strerror or str(error)
        session.main.send((name, reason.encode()), msgid=FAILED, timeout=None)
    else:
        session.main.send(
            (name, digest.sha256, digest.size.to_bytes(8, "big")), msgid=DIGEST, timeout=None
        )
