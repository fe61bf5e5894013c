"""Where most children come from: a process that has imported everything, and forks.

A new interpreter takes a third of a second to start, which is most of what a test of two
processes takes; a fork takes a hundredth of that. The process that forks has neither threads nor
ports, and what it forks lives and ends as any other process.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from typing import Any

from tests.support import PATIENCE, eventually
from tests.transports.processes.child import ROOT, serve

_START = "from tests.transports.processes.nursery import nurse; import sys; nurse(*sys.argv[1:])"
_MODULES = (
    "encodings.idna",
    "portkit_transports.message",
    "portkit_transports.socket",
    "tests.transports.processes.crowd",
    "tests.transports.processes.roles",
)


class Nursery:
    """The process that forks. It ends with :meth:`close`, or with this process.

    Args:
        modules: what it imports beside the roles of the tests of transports.
    """

    def __init__(self, *modules: str) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
        self._line.settimeout(PATIENCE)
        self._replies = self._line.makefile("rb")

    def fork(self, commands: int, results: int) -> Forked:
        """A process with the environment that this one has now; see ``Child``."""
        pid: int = self._ask(dict(os.environ), [commands, results])
        return Forked(self, pid)

    def look(self, pid: int, what: int) -> int | None:
        """The status with which one of them ended or stopped; None if it did not.

        Args:
            pid: which.
            what: options of ``os.waitid``: which of the two.
        """
        status: int | None = self._ask((pid, what), [])
        return status

    def _ask(self, request: object, descriptors: list[int]) -> Any:
        socket.send_fds(self._line, [b"?"], descriptors)
        self._line.sendall(pickle.dumps(request))
        return pickle.load(self._replies)

    def close(self) -> None:
        """End it; what it forked is left alone."""
        self._replies.close()
        self._line.close()
        self._process.wait(PATIENCE)


class Forked:
    """A process that a nursery forked, in the manner of ``subprocess.Popen``."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._status: int | None = None

    def send_signal(self, number: int, /) -> None:
        """Send it a signal, unless it has been waited for."""
        if self._status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """How it ended, if it did: its exit status, or less than 0 for a signal."""
        if self._status is None:
            self._status = self._nursery.look(self.pid, os.WEXITED)
        return self._status

    def wait(self, timeout: float | None = PATIENCE) -> int:
        """How it ended, when it has."""
        assert eventually(lambda: self.poll() is not None, timeout or PATIENCE), "it goes on"
        assert self._status is not None
        return self._status

    def is_stopped(self) -> bool:
        """Whether it stands still."""
        return self._nursery.look(self.pid, os.WSTOPPED | os.WNOWAIT) is not None


def nurse(line: str, *modules: str) -> None:
    """The nursery's life, and those of all its children."""
    for module in (*_MODULES, *modules):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(line)) as asked, asked.makefile("rb") as requests:
        while True:
            begin, descriptors, _, _ = socket.recv_fds(asked, 1, 2)
            if not begin:
                return
            request = pickle.load(requests)
            if not descriptors:
                reply = _look(*request)
            else:
                reply = os.fork()
                if reply == 0:
                    break
                for descriptor in descriptors:
                    os.close(descriptor)
            asked.sendall(pickle.dumps(reply))
    os.environ.clear()
    os.environ.update(request)
    serve(*descriptors)


def _look(pid: int, what: int) -> int | None:
    found = os.waitid(os.P_PID, pid, what | os.WNOHANG)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
