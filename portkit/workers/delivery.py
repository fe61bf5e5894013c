"""Delivering what waits at a port before something ends."""

from __future__ import annotations

from portkit._report import report
from portkit.port import Port


def deliver_waiting(port: Port) -> None:
    """Deliver the messages that are here now; not those that their handling brings, so it ends."""
    for _ in range(port.pending):
        try:
            if not port.deliver():
                return
        except Exception as error:
            report("a port's delegate raised", error, port)
