"""Many peers that connect once and then do nothing."""

from __future__ import annotations

import os
import resource
import select
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn

from bench.ipc.address import Address
from bench.ipc.server import Control
from bench.ipc.spawn import PATIENCE

_JOINED, _FAILED = b"j", b"f"
_PER_CONNECTION = 3
"""Descriptors that some libraries need for each."""

_kept: list[object] = []


def missing_descriptors(count: int) -> str:
    """Why so many connections cannot be had here, or ""."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed == resource.RLIM_INFINITY or allowed > count * _PER_CONNECTION:
        return ""
    return f"needs {count * _PER_CONNECTION} open files, {allowed} are allowed"


def gather(address: Address, control: Control, count: int, join: Callable[[], object]) -> None:
    """Call ``join`` so often, and keep what it gave until this process ends.

    A Unix socket tells processes apart, so there each call is made by a forked one, and nothing
    may have started a thread before.
    """
    if address.network == "ipc":
        _fork(control, count, join)
    else:
        _kept.extend(join() for _ in range(count))
        control.ready()
        signal.pause()


def _fork(control: Control, count: int, join: Callable[[], object]) -> None:
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
