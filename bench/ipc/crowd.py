"""Many processes that connect once and then do nothing."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from bench.ipc.server import Control
from bench.ipc.spawn import PATIENCE


def gather(control: Control, count: int, join: Callable[[], object]) -> None:
    """Fork so many processes; each calls ``join``, keeps what it gave, and ends when this one does.

    To be called before anything has started a thread.
    """
    joined_read, joined_write = os.pipe()
    life_read, life_write = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            _member(join, joined_write, life_read, life_write)
    os.close(joined_write)
    _await(joined_read, count)
    control.ready()
    os.read(life_read, 1)  # nobody writes: this process ends while it reads


def _member(join: Callable[[], object], joined: int, life_read: int, life_write: int) -> None:
    status = 1
    try:
        os.close(life_write)
        kept = join()
        os.write(joined, b"\0")
        os.read(life_read, 1)
        status = 0
        del kept
    finally:
        os._exit(status)


def _await(joined: int, count: int) -> None:
    while count:
        if not select.select([joined], [], [], PATIENCE)[0]:
            raise RuntimeError(f"{count} processes did not connect within {PATIENCE} s")
        arrived = len(os.read(joined, 4096))
        if not arrived:
            raise RuntimeError(f"{count} processes could not connect; what they wrote stands above")
        count -= arrived
