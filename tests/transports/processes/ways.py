"""Ways for the processes of these tests to reach each other's ports: by names, whatever carries it.

A way is handed to every process of a test; what opens a port there, and what sends to it from
elsewhere, is asked of the way. One class below, and one line in ``conftest.py``, add another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest

from portkit import MessagePort, Port, SocketPort, connect_port
from portkit.local_port import LocalPort
from portkit_transports.socket import TLSConfig

BETWEEN_HOSTS = pytest.mark.parametrize("way", ["socket", "tls"], indirect=True)
"""Marks a test of what is so between hosts only."""


class Way(Protocol):
    """How the processes of a test reach each other's ports."""

    def open(self, name: str, delegate: Any = None, *, queue_limit: int = 1024) -> LocalPort:
        """A port that others reach by that name."""
        ...

    def anonymous(self, delegate: Any = None) -> LocalPort:
        """A port that others reach once it was sent to them."""
        ...

    def remote(self, name: str) -> Port:
        """A handle to the port of that name."""
        ...


class ByName:
    """Over Unix sockets, with names in the runtime folder."""

    def open(self, name: str, delegate: Any = None, *, queue_limit: int = 1024) -> MessagePort:
        """A port that others reach by that name."""
        return MessagePort(name, delegate, queue_limit=queue_limit)

    def anonymous(self, delegate: Any = None) -> MessagePort:
        """A port that others reach once it was sent to them."""
        return MessagePort(None, delegate)

    def remote(self, name: str) -> Port:
        """A handle to the port of that name."""
        return MessagePort.remote(name)


class OverTCP:
    """Over TCP on loopback. The names are those of files with addresses.

    Args:
        folder: of these files.
        tls: the certificates of both sides.
    """

    def __init__(self, folder: Path, tls: TLSConfig | None = None) -> None:
        self._folder = folder
        self.tls = tls

    def open(self, name: str, delegate: Any = None, *, queue_limit: int = 1024) -> SocketPort:
        """A port that others reach by that name; there is one of each name at a time."""
        port = SocketPort(delegate=delegate, queue_limit=queue_limit, tls=self.tls)
        self._file(name).write_text(str(port.address))
        return port

    def anonymous(self, delegate: Any = None) -> SocketPort:
        """A port that others reach once it was sent to them."""
        return SocketPort(None, delegate)

    def remote(self, name: str) -> Port:
        """A handle to the port of that name."""
        return connect_port(self._file(name).read_text(), tls=self.tls)

    def _file(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.address"


class Either:
    """One of several ways: the first word of each name says which."""

    def __init__(self, **ways: Way) -> None:
        self._ways = ways

    def open(self, name: str, delegate: Any = None, *, queue_limit: int = 1024) -> LocalPort:
        """A port that others reach by that name."""
        return self._of(name).open(name, delegate, queue_limit=queue_limit)

    def anonymous(self, delegate: Any = None) -> LocalPort:
        """A port that others reach once it was sent to them."""
        return next(iter(self._ways.values())).anonymous(delegate)

    def remote(self, name: str) -> Port:
        """A handle to the port of that name."""
        return self._of(name).remote(name)

    def _of(self, name: str) -> Way:
        return self._ways[name.partition(" ")[0]]
