"""A network of one's own: devices, addresses and routes that nothing outside can reach.

A namespace lives as long as a descriptor, a process or a socket refers to it. None has a name, so
that no two tests meet, and the kernel removes what a killed test leaves.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.support import PATIENCE, run_on_thread

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class UnavailableError(Exception):
    """This machine does not allow what is asked for; the text is the reason in one clause."""


class Namespace:
    """A network namespace; its loopback device is up.

    Attributes:
        fd: the descriptor that keeps it alive.

    Raises:
        UnavailableError: the machine does not allow one.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise UnavailableError("only Linux has network namespaces")
        if os.geteuid() != 0:
            raise UnavailableError("only root may make network namespaces")
        self.fd: int = run_on_thread(_make)
        try:
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def inside(self, fn: Callable[[], T], *, timeout: float = PATIENCE) -> T:
        """Call ``fn`` on a new thread that is in here, as are sockets and processes it makes."""

        def enter() -> T:
            _check(_libc().setns(self.fd, _CLONE_NEWNET), "entering a network namespace")
            return fn()

        return run_on_thread(enter, timeout=timeout)

    def ip(self, *arguments: str) -> str:
        """Call iproute2's ``ip`` in here; what it prints. See :meth:`tool`."""
        return self.tool("ip", arguments)

    def tool(self, name: str, arguments: Sequence[str], *, pass_fds: Sequence[int] = ()) -> str:
        """Call a program of iproute2 in here; what it prints.

        Raises:
            UnavailableError: it is not installed, or says no.
        """
        program = shutil.which(name, path=_PATH)
        if program is None:
            raise UnavailableError(f"the program {name} is missing: install iproute2")
        ended = self.inside(
            lambda: subprocess.run(
                [program, *arguments],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                pass_fds=pass_fds,
            )
        )
        if ended.returncode != 0:
            said = ended.stderr.strip() or f"status {ended.returncode}"
            raise UnavailableError(f"{name} {' '.join(arguments)}: {said}")
        return ended.stdout

    def close(self) -> None:
        """Let go of it; it ends with its last process."""
        os.close(self.fd)


def _make() -> int:
    _check(_libc().unshare(_CLONE_NEWNET), "making a network namespace")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)  # os.setns is younger than Python 3.11


def _check(result: int, what: str) -> None:
    if result != 0:
        raise UnavailableError(f"{what} failed: {os.strerror(ctypes.get_errno())}")
