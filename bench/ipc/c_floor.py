"""A bare Unix stream socket in C, both ends: what the kernel leaves to be gained."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path

from bench.ipc.address import new_address
from bench.ipc.spawn import PATIENCE
from bench.measure import BATCH
from bench.model import Sample

_COMPILER = shutil.which("cc")
missing_compiler = "" if _COMPILER else "there is no C compiler"


@cache
def _program() -> str:
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    atexit.register(folder.cleanup)
    program = f"{folder.name}/ping_pong"
    source = Path(__file__).with_name("ping_pong.c")
    assert _COMPILER is not None
    subprocess.run([_COMPILER, "-O2", "-o", program, source], check=True, timeout=PATIENCE)
    return program


def _run(*arguments: str) -> Sample:
    command = [_program(), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PATIENCE)
    sample: Sample = json.loads(done.stdout)
    return sample


def round_trips(count: int) -> Sample:
    """As :func:`bench.ipc.measure.round_trips`."""
    return _run("request", str(count))


def one_way(count: int, *, batch: int = 1) -> Sample:
    """As :func:`bench.ipc.measure.one_way`, with so many payloads in each write."""
    return _run("one-way", str(max(BATCH, count // BATCH * BATCH)), str(batch))


one_way_batches = partial(one_way, batch=BATCH)


def large(size: int, count: int) -> Sample:
    """As :func:`bench.ipc.measure.large`."""
    return _run("large", str(count), str(size))


def connections(count: int) -> Sample:
    """As :func:`bench.ipc.measure.connections`."""
    with new_address() as address:
        return _run("connections", str(count), address.path)
