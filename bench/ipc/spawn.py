"""Starting the other process, and asking it what it used."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from bench.ipc import relay
from bench.ipc.address import Address, Network, new_address

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds until a process or a peer that does not answer is given up."""
_GRACE = 5.0
"""Seconds it has to end when it was told to."""
_ROOT = Path(__file__).parent.parent.parent

Serve: TypeAlias = "Callable[..., None]"
"""``serve(address, control, *arguments)``: a function of a module, run by the other process."""


class Spawned:
    """A process that serves."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._pid = process.pid
        self._write_fd, self._read_fd = process.stdin.fileno(), process.stdout.fileno()
        self._received = b""

    def cpu_ns(self) -> int:
        """CPU time it has used so far, all its threads together."""
        self._say("cpu")
        return int(self._line())

    def expect(self, count: int) -> None:
        """Let it count that many messages."""
        self._say(f"expect {count}")
        self.wait_for("ok")

    def wait_for(self, word: str) -> None:
        """Wait until it says that: ``ready``, or ``done`` when the expected were all handled."""
        line = self._line()
        if line != word:
            raise RuntimeError(f"the other process said {line!r} instead of {word!r}")

    def memory(self) -> int:
        """Bytes that it has written to and shares with nobody; the kernel's buffers not counted."""
        for line in Path(f"/proc/{self._pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("this kernel does not tell how much memory a process uses")

    def _say(self, line: str) -> None:
        os.write(self._write_fd, line.encode() + b"\n")

    def _line(self) -> str:
        poll = select.poll()
        poll.register(self._read_fd, select.POLLIN)
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._received:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise RuntimeError(f"the other process said nothing for {PATIENCE} s")
            chunk = os.read(self._read_fd, 4096)
            if not chunk:
                raise RuntimeError("the other process ended too early; what it wrote stands above")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()


missing_memory = "" if Path("/proc/self/smaps_rollup").exists() else "needs /proc/PID/smaps_rollup"
"""Why :meth:`Spawned.memory` cannot be asked for here, or ""."""


@contextmanager
def spawned(serve: Serve, address: Address, *arguments: object) -> Iterator[Spawned]:
    """Run a function in a new interpreter, on the CPUs of this thread; until the ``with`` ends."""
    name = f"{serve.__module__}:{serve.__qualname__}"
    command = [sys.executable, "-m", "bench.ipc.server", name, *map(str, (address, *arguments))]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        try:
            server = Spawned(process)
            server.wait_for("ready")
            yield server
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True)
class Way(Generic[T]):
    """A way to talk to another process.

    Attributes:
        serve: what the other process does.
        connect: what this one does; gives what is measured, such as a function to call.
        arguments: what ``serve`` gets beside the address.
        network: what it goes over.
        delay: seconds that each byte is under way, each way.
    """

    serve: Serve
    connect: Callable[[Address], AbstractContextManager[T]]
    arguments: tuple[Any, ...] = ()
    network: Network = "ipc"
    delay: float = 0.0

    @contextmanager
    def open(self) -> Iterator[tuple[T, Spawned]]:
        """Start the other process, connect to it, and at the end undo both."""
        with self.serving() as (address, server), self.connect(address) as client:
            yield client, server

    @contextmanager
    def serving(self) -> Iterator[tuple[Address, Spawned]]:
        """Only start the other process, and what delays the way to it."""
        with ExitStack() as stack:
            address = stack.enter_context(new_address(self.network))
            server = stack.enter_context(spawned(self.serve, address, *self.arguments))
            if self.delay:
                address, target = stack.enter_context(new_address(self.network)), address
                stack.enter_context(spawned(relay.serve, address, target, self.delay))
            yield address, server
