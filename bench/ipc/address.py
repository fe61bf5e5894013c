"""Where a server is found, whatever library it uses."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

Network: TypeAlias = Literal["ipc", "tcp", "tls"]
"""A Unix socket, TCP on loopback, or that with TLS (or what the library has in its place)."""


@dataclass(frozen=True)
class Address:
    """As text it is ``ipc:///path``, ``tcp://HOST:PORT`` or ``tls://HOST:PORT/folder``.

    Attributes:
        network: which kind.
        path: of the Unix socket, or of the folder with keys and certificates.
        host: a numeric address.
        port: its number.
    """

    network: Network
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """What ``str`` gave."""
        parts = urlsplit(text)
        network: Network = next(known for known in _NETWORKS if known == parts.scheme)
        return cls(network, parts.path, parts.hostname or "", parts.port or 0)

    def __str__(self) -> str:
        where = f"{self.host}:{self.port}" if self.port else ""
        return f"{self.network}://{where}{self.path}"

    @property
    def endpoint(self) -> str:
        """``ipc:///path`` or ``tcp://HOST:PORT``, as most libraries want it."""
        return f"tcp://{self.host}:{self.port}" if self.port else str(self)

    @property
    def of_socket(self) -> str | tuple[str, int]:
        """What the socket module wants."""
        return (self.host, self.port) if self.port else self.path

    @property
    def family(self) -> socket.AddressFamily:
        """Of its socket."""
        return socket.AF_INET if self.port else socket.AF_UNIX


_NETWORKS: tuple[Network, ...] = ("ipc", "tcp", "tls")


@contextmanager
def new_address(network: Network = "ipc") -> Iterator[Address]:
    """An address that is nobody else's meanwhile."""
    if network == "ipc":
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            yield Address(network, f"{folder}/socket")
        return
    path = ""
    if network == "tls":
        # Here, for what makes them would be most of what the other process imports.
        from bench.ipc.certificates import certificates  # noqa: PLC0415

        path = str(certificates())
    # Bound but not listening it keeps the number for a server that also reuses addresses.
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        host, port = kept.getsockname()
        yield Address(network, path, host, port)


def certificate(address: Address, name: str) -> tuple[Path, Path, Path]:
    """The files of the authority's certificate, of that peer's certificate, and of its key."""
    folder = Path(address.path)
    return folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}-key.pem"
