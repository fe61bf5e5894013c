"""What the figures were measured on, and keeping threads on one CPU."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

_SHOWN = ("portkit", "eclipse-zenoh", "grpcio", "janus", "pynng", "Pyro5", "pyzmq", "rpyc")


def facts() -> dict[str, Any]:
    """The machine and the versions, without anything that names either."""
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: _version(name) for name in _SHOWN},
        "load": load(),
    }


def load() -> list[float]:
    """The load average over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


@contextmanager
def pinned(pin: bool) -> Iterator[None]:
    """Keep this thread, and those it starts meanwhile, on one CPU."""
    before = os.sched_getaffinity(0)
    try:
        if pin:
            os.sched_setaffinity(0, {max(before)})
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
