"""What other processes are told to do with names; the rest is in ``processes/roles.py``."""

from __future__ import annotations

from portkit import MessagePort
from portkit_transports.message.name_server import MessagePortNameServer
from tests.transports.processes.roles import ports, servers


def rename(name: str, new: str | None) -> None:
    """Give a port another name."""
    port = ports[name]
    assert isinstance(port, MessagePort)
    port.set_name(new)
    if new is not None:
        ports[new], servers[new] = ports.pop(name), servers.pop(name)


def register(name: str, port: str) -> None:
    """Give a port one more name."""
    MessagePortNameServer().register(name, ports[port])


def unregister(name: str) -> None:
    """Take a name back."""
    MessagePortNameServer().unregister(name)
