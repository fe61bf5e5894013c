"""Two hosts joined by a cable that can be slow, lossy and cut; each host is a namespace."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from tests.hosts.cable import DEVICE, Cable, VethCable
from tests.hosts.line import Impairment
from tests.hosts.namespace import Namespace, UnavailableError
from tests.hosts.tap_cable import TapCable
from tests.support import PATIENCE, eventually
from tests.transports.processes.child import Child

T = TypeVar("T")

CABLES: tuple[Callable[[Namespace, Namespace, int], Cable], ...] = (VethCable, TapCable)
"""Kinds of cables, the best first."""


class Host:
    """A host of the network. Every process that is started on it is killed at the network's end.

    Attributes:
        namespace: what is its own.
        address: its IPv4 address on the cable.
        address6: its IPv6 address there; "" where the kernel has no IPv6.
        hardware: its Ethernet address there.
    """

    def __init__(self, number: int) -> None:
        self.address = f"10.77.0.{number}"
        self.hardware = f"02:77:00:00:00:{number:02x}"
        self._child: Child | None = None
        self._ends = ExitStack()
        self.namespace = Namespace()
        self._ends.callback(self.namespace.close)
        self.address6 = f"fd77::{number}" if self.inside(_speaks_ipv6) else ""

    def inside(self, fn: Callable[[], T], *, timeout: float = PATIENCE) -> T:
        """Call ``fn`` on a thread that is on this host: the sockets it makes are this host's."""
        return self.namespace.inside(fn, timeout=timeout)

    def run(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on this host; ``options`` are those of ``subprocess.Popen``."""
        process: subprocess.Popen[Any] = self.inside(lambda: subprocess.Popen(arguments, **options))
        self._ends.enter_context(process)
        self._ends.callback(process.kill)
        return process

    def child(self) -> Child:
        """A new process on this host that calls what it is told, on its run loop."""
        return self._ends.enter_context(self.inside(Child))

    @property
    def main(self) -> Child:
        """One and the same process on this host, which is started when it is first needed."""
        if self._child is None:
            self._child = self.child()
        return self._child

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Call a function of a module in that process."""
        return self.main.call(fn, *args)

    def plug_in(self, other: Host) -> None:
        """Give the cable's end its addresses, and make the other host's known.

        That spares both the questions of ARP and neighbour discovery: one that is lost costs a
        second.
        """
        ip = self.namespace.ip
        ip("link", "set", DEVICE, "address", self.hardware)
        ip("addr", "add", f"{self.address}/24", "dev", DEVICE)
        if self.address6:
            ip("addr", "add", f"{self.address6}/64", "dev", DEVICE, "nodad")
        ip("link", "set", DEVICE, "up")
        for address in filter(None, (other.address, other.address6)):
            neighbour = [address, "lladdr", other.hardware, "nud", "permanent"]
            ip("neigh", "replace", *neighbour, "dev", DEVICE)

    def close(self) -> None:
        """Kill its processes and remove it."""
        self._ends.close()


def _speaks_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


class Network:
    """Two hosts and the cable between them, until the end of the ``with``.

    Args:
        seed: what chance decides repeats with it, as far as the cable allows.
        cables: the kinds of cables to try, in turn.

    Attributes:
        left: a host.
        right: the other.
        cable: what joins them.

    Raises:
        UnavailableError: the machine does not allow it; why.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        cables: Sequence[Callable[[Namespace, Namespace, int], Cable]] = CABLES,
    ) -> None:
        with ExitStack() as ends:
            self.left = Host(1)
            ends.callback(self.left.close)
            self.right = Host(2)
            ends.callback(self.right.close)
            self.cable = _connect(cables, self.left.namespace, self.right.namespace, seed)
            ends.callback(self.cable.close)
            self.left.plug_in(self.right)
            self.right.plug_in(self.left)
            self._ends = ends.pop_all()

    def run(
        self, host: Literal["left", "right"], arguments: Sequence[str], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program on a host; see :meth:`Host.run`."""
        return {"left": self.left, "right": self.right}[host].run(arguments, **options)

    def impair(
        self,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        reorder: float = 0.0,
        rate: float | None = None,
    ) -> None:
        """From now on do this to frames each way, and nothing else; see :class:`Impairment`."""
        self.cable.impair(Impairment(delay, jitter, loss, reorder, rate))

    def cut(self) -> None:
        """Cut the cable: every frame is lost, those under way too, and neither host is told."""
        self.cable.cut()

    def cut_after(self, count: int) -> None:
        """Wait until ``count`` more bytes have crossed, then cut: in mid-transfer.

        A limited ``rate`` leaves time for it.
        """
        end = self.cable.crossed + count
        assert eventually(lambda: self.cable.crossed >= end), f"{count} bytes never crossed"
        self.cable.cut()

    def mend(self) -> None:
        """Mend the cable; it is as impaired as before."""
        self.cable.mend()

    def close(self) -> None:
        """Kill every process of both hosts and remove all."""
        self._ends.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@cache
def why_not(cables: Sequence[Callable[[Namespace, Namespace, int], Cable]] = CABLES) -> str:
    """Why this machine does not allow a network with such cables, in a sentence, or ""."""
    try:
        Network(cables=cables).close()
    except UnavailableError as error:
        return f"no two hosts on this machine: {error}"
    return ""


def _connect(
    cables: Sequence[Callable[[Namespace, Namespace, int], Cable]],
    left: Namespace,
    right: Namespace,
    seed: int,
) -> Cable:
    reasons: list[str] = []
    for cable in cables:
        try:
            return cable(left, right, seed)
        except UnavailableError as error:
            reasons.append(str(error))
    raise UnavailableError("; ".join(reasons))
