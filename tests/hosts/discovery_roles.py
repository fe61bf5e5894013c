"""What processes on two hosts do to find each other: functions that they are told to call."""

from __future__ import annotations

from portkit import PortError, RunLoop, SocketPort
from portkit_transports.socket import SocketPortNameServer
from tests.hosts.roles import KEY
from tests.support import PATIENCE


class Here:
    """What this process has."""

    names: SocketPortNameServer
    ports: list[SocketPort]


def open_names(ttl: int = 120) -> None:
    """Find ports on the network."""
    Here.names = SocketPortNameServer(key=KEY, ttl=ttl)
    Here.ports = []


def register(name: str, host: str, answer: bytes) -> str:
    """Serve a port that answers so, and register it; why not, if that fails."""
    port = SocketPort((host, 0), lambda message: answer, key=KEY)
    RunLoop.current().add_port(port)
    Here.ports.append(port)
    try:
        Here.names.register(name, port)
    except PortError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def ask(name: str) -> str:
    """What the port with that name answers, and where it is; or why it does not."""
    try:
        found = Here.names.lookup(name)
        answer = found.request(send_timeout=PATIENCE, reply_timeout=PATIENCE).data or b""
    except PortError as error:
        return f"{type(error).__name__}: {error}"
    return f"{answer.decode()} at {found.address}"


def find(name: str) -> str:
    """Where the port with that name is; or why that is not known."""
    try:
        return str(Here.names.lookup(name).address)
    except PortError as error:
        return f"{type(error).__name__}: {error}"


def names() -> list[str]:
    """All names."""
    return Here.names.names()


def unregister(name: str) -> str:
    """Take a name back; why not, if that fails."""
    try:
        Here.names.unregister(name)
    except PortError as error:
        return f"{type(error).__name__}: {error}"
    return ""
