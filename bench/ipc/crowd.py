"""Many processes that connect once and then do nothing."""

from __future__ import annotations

import os
import select
import traceback
from collections.abc import Callable
from typing import NoReturn

from bench.ipc.server import Control
from bench.ipc.spawn import PATIENCE

_JOINED, _FAILED = b"j", b"f"


def gather(control: Control, count: int, join: Callable[[], object]) -> None:
    """Fork so many processes; each calls ``join``, keeps what it gave, and ends when this one does.

    To be called before anything has started a thread.
    """
    joined_read, joined_write = os.pipe()
    life_read, life_write = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            _member(join, joined_write, life_read, life_write)
        _await(joined_read)
    control.ready()
    os.read(life_read, 1)  # nobody writes: this process ends while it reads


def _member(join: Callable[[], object], joined: int, life_read: int, life_write: int) -> NoReturn:
    os.close(life_write)
    try:
        kept = join()
    except BaseException:  # nothing may escape into what its parent is doing
        traceback.print_exc()
        os.write(joined, _FAILED)
        os._exit(1)
    os.write(joined, _JOINED)
    os.read(life_read, 1)
    del kept
    os._exit(0)


def _await(joined: int) -> None:
    """Until the member has joined: one at a time, so that they do not crowd the CPUs as well."""
    if not select.select([joined], [], [], PATIENCE)[0]:
        raise RuntimeError(f"a process did not connect within {PATIENCE} s")
    if os.read(joined, 1) != _JOINED:
        raise RuntimeError("a process could not connect; what it wrote stands above")
