"""What a name stands for, and the file that says so."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SOCKET_PATTERN = r"^[0-9]{1,10}-[0-9a-f]{16}\.sock$"
MAX_RECORD_BYTES = 16 * 1024
"""More than any record takes: JSON writes a name of 1024 bytes with up to 6 times as many."""

_PREFIX = "name."
_HASHED = "hash."
_MAX_FILE_NAME = 255
_UNSAFE = re.compile(rb"[^a-z0-9._-]")

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Record(NamedTuple):
    """What a name stands for.

    Attributes:
        name: the name.
        socket: file name of the owner's listening socket inside the runtime folder.
        port_id: 16 random bytes: which port behind that socket.
        incarnation: 16 random bytes: which process, for a pid can be used again.
        pid: of the owner, in its own pid namespace.
        start_time: of the owner, as ``process_start_time`` gives it.
    """

    name: str
    socket: str
    port_id: bytes
    incarnation: bytes
    pid: int
    start_time: int


class _File(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    name: str
    socket: str = Field(pattern=SOCKET_PATTERN)  # so that it cannot lead out of the folder
    port_id: Id
    incarnation: Id
    pid: int = Field(gt=0, lt=2**31)
    start_time: int = Field(ge=0, lt=2**64)


def encode(record: Record) -> bytes:
    """The contents of the record's file.

    Raises:
        ValueError: a part of the record cannot be what it says.
    """
    return (
        _File(
            name=record.name,
            socket=record.socket,
            port_id=record.port_id.hex(),
            incarnation=record.incarnation.hex(),
            pid=record.pid,
            start_time=record.start_time,
        )
        .model_dump_json()
        .encode()
    )


def decode(data: bytes) -> Record | None:
    """The record in the contents of a file; None if that is no record."""
    try:
        file = _File.model_validate_json(data)
    except ValidationError:
        return None
    return Record(
        name=file.name,
        socket=file.socket,
        port_id=bytes.fromhex(file.port_id),
        incarnation=bytes.fromhex(file.incarnation),
        pid=file.pid,
        start_time=file.start_time,
    )


def file_name(name: str) -> str:
    """The file of a name's record. Two names have two files, whatever the file system folds.

    Small letters, digits, dots, dashes and underscores stand for themselves, the bytes of all
    else are written ``%4a``; what would be too long for a file name is hashed.
    """
    data = name.encode()
    written = _PREFIX + _UNSAFE.sub(lambda unsafe: b"%%%02x" % unsafe[0][0], data).decode()
    return written if len(written) <= _MAX_FILE_NAME else _HASHED + hashlib.sha256(data).hexdigest()


def is_record_file(entry: str) -> bool:
    """Whether a file of the runtime folder is named as one of :func:`file_name`."""
    return entry.startswith((_PREFIX, _HASHED))
