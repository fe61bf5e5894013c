"""The ways of which every test of this folder tries each. One entry below adds another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from portkit_transports.socket import TLSConfig
from tests.transports.message.fresh_host import fresh_host
from tests.transports.processes.ways import ByName, OverTCP, Way
from tests.transports.socket.pki import Pki, pki

__all__ = ["pki"]


@contextmanager
def message(folder: Path, tls: TLSConfig) -> Iterator[Way]:
    """Unix sockets, and names in a runtime folder that is new to every test."""
    with fresh_host():
        yield ByName()


@contextmanager
def socket(folder: Path, tls: TLSConfig) -> Iterator[Way]:
    """TCP."""
    yield OverTCP(folder)


@contextmanager
def tls(folder: Path, tls: TLSConfig) -> Iterator[Way]:
    """TCP with certificates on both sides."""
    yield OverTCP(folder, tls)


WAYS: dict[str, Callable[[Path, TLSConfig], AbstractContextManager[Way]]] = {
    "message": message,
    "socket": socket,
    "tls": tls,
}


@pytest.fixture(scope="session")
def certificates(pki: Pki) -> TLSConfig:
    """Of all processes."""
    return pki.config()


@pytest.fixture(params=WAYS)
def way(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: TLSConfig, no_leftovers: None
) -> Iterator[Way]:
    """Each of them in turn."""
    with WAYS[request.param](tmp_path, certificates) as chosen:
        yield chosen
