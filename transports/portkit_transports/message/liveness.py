"""Whether somebody listens at a socket, and whether it is who a record says."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

from portkit_transports.message.channel import peer_of
from portkit_transports.message.process import same_process
from portkit_transports.message.record import Record

MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes of a Unix socket's path, without the NUL that ends it."""

_NOBODY = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.ENOTDIR})


def listener(path: Path) -> int | None:
    """The pid of whoever listens at a socket, found by connecting; does not wait.

    Returns:
        Its number in this process's pid namespace; 0 if somebody listens but who is not known
        here; None if nobody does.

    Raises:
        OSError: this cannot be found out.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return 0  # its backlog is full: it is busy or stopped, not dead
        except OSError as error:
            if error.errno in _NOBODY:
                return None
            raise
        peer = peer_of(probe)
        return 0 if peer is None else peer.pid


def owner_listens(record: Record, path: Path) -> bool:
    """Whether the owner of ``record`` listens at ``path``.

    The pid in a record from another container means nothing here. So who is listening decides:
    a listener with the owner's pid must have its start time; one with another pid is the owner
    as another pid namespace sees it, for the socket's random name is nobody else's.

    Raises:
        OSError: this cannot be found out.
    """
    pid = listener(path)
    if pid is None:
        return False
    return pid != record.pid or same_process(pid, record.start_time)
