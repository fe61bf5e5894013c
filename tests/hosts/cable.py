"""What joins two hosts. It is cut as at a switch: frames get lost, and neither kernel is told."""

from __future__ import annotations

import json
from typing import Protocol

from tests.hosts.line import Impairment
from tests.hosts.namespace import Namespace, UnavailableError

DEVICE = "cable"
"""The name that a cable's end has on each host."""


class Cable(Protocol):
    """A cable between two namespaces, whose ends are devices of the name :data:`DEVICE`."""

    @property
    def crossed(self) -> int:
        """Bytes that have crossed it, both ways together."""

    def impair(self, impairment: Impairment) -> None:
        """Do this to frames that are sent from now on, each way."""

    def cut(self) -> None:
        """Lose every frame, also those under way. Nothing crosses once this returns."""

    def mend(self) -> None:
        """Carry frames again, as impaired as before."""

    def close(self) -> None:
        """Remove it."""


class VethCable:
    """A veth pair, whose frames the kernel's netem delays and loses.

    Raises:
        UnavailableError: the kernel lacks either.
    """

    def __init__(self, left: Namespace, right: Namespace, seed: int = 0) -> None:
        self._ends = (left, right)
        self._impairment = Impairment()
        self._generation = 0
        there = f"/proc/self/fd/{right.fd}"
        left.tool(
            "ip",
            ["link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", there],
            pass_fds=[right.fd],
        )
        try:
            self.mend()
        except UnavailableError:
            self.close()
            raise

    @property
    def crossed(self) -> int:
        """Bytes that have crossed it, both ways together."""
        [link] = json.loads(self._ends[0].ip("-j", "-s", "link", "show", DEVICE))
        counts = link["stats64"]
        return int(counts["rx"]["bytes"]) + int(counts["tx"]["bytes"])

    def impair(self, impairment: Impairment) -> None:
        """Do this to frames that are sent from now on, each way."""
        self._impairment = impairment
        self._use(impairment)

    def cut(self) -> None:
        """Lose every frame, also those under way."""
        self._use(Impairment(loss=1.0))

    def mend(self) -> None:
        """Carry frames again, as impaired as before."""
        self._use(self._impairment)

    def close(self) -> None:
        """Remove it."""
        self._ends[0].ip("link", "del", DEVICE)  # the other end goes with it

    def _use(self, impairment: Impairment) -> None:
        self._generation += 1  # a new handle is a new queue: the old one goes with its frames
        queue = ["qdisc", "replace", "dev", DEVICE, "root", "handle", f"{self._generation}:"]
        for end in self._ends:
            end.tool("tc", [*queue, "netem", *impairment.netem()])
