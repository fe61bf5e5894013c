"""The interface of name servers, by the smallest server there can be."""

from __future__ import annotations

from typing import Any

import pytest

from portkit import (
    AuthenticationError,
    InvalidPortError,
    MachPort,
    NameInUseError,
    NameNotFoundError,
    Port,
    ReceiveTimeoutError,
)
from portkit.names import NameServer, check_name


class Table(NameServer):
    """Names in a dictionary; those that begin with ``their-`` are somebody else's."""

    def __init__(self) -> None:
        self._ports: dict[str, Port] = {}

    def register(self, name: str, port: Port) -> None:
        if not port.is_valid:
            raise InvalidPortError(f"{port!r} is invalid")
        if self._ports.setdefault(check_name(name), port) is not port:
            raise NameInUseError(name)

    def lookup(self, name: str) -> Port:
        if check_name(name) not in self._ports:
            raise NameNotFoundError(name)
        return self._ports[name]

    def unregister(self, name: str) -> None:
        if name.startswith("their-"):
            raise AuthenticationError(name)
        self.lookup(name)
        del self._ports[name]

    def names(self) -> list[str]:
        return sorted(self._ports)

    def wait_for(self, name: str, timeout: float | None) -> Port:
        try:
            return self.lookup(name)
        except NameNotFoundError:
            raise ReceiveTimeoutError(name) from None


def test_a_server_has_every_part_of_the_interface() -> None:
    incomplete: Any = NameServer
    with pytest.raises(TypeError, match=r"lookup.*names.*register.*unregister.*wait_for"):
        incomplete()


def test_the_interface_is_enough_to_meet() -> None:
    server: NameServer = Table()
    with MachPort() as port, MachPort() as other:
        server.register("a", port)
        server.register("a", port)
        assert server.lookup("a") is server.wait_for("a", 0) is port
        assert server.names() == ["a"]
        with pytest.raises(NameInUseError):
            server.register("a", other)
        server.unregister("a")
        with pytest.raises(NameNotFoundError):
            server.unregister("a")
        with pytest.raises(ReceiveTimeoutError):
            server.wait_for("a", 0)
