"""Why a port of another process has ended."""

from __future__ import annotations

from portkit.link.remote_port import RemotePort
from portkit.link.rights import Import
from portkit.port import Port


def what_became_of(port: Port) -> str:
    """In words that follow on a colon, white space included."""
    right = port._right if isinstance(port, RemotePort) else None
    if isinstance(right, Import) and right.link.is_closed:
        return f" its connection ended: {right.link.ending}"
    return " its port was invalidated"
