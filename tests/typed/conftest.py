"""Payloads go within a process, by name to another, and over TCP: the table of tests/transports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.transports.conftest import start
from tests.transports.processes.conftest import certificates, pki, way
from tests.transports.processes.nursery import Nursery
from tests.transports.test_behaviour import TRANSPORTS, Transport, world

__all__ = ["certificates", "pki", "start", "way", "world"]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What forks the other processes."""
    made = Nursery("tests.typed.roles")
    yield made
    made.close()


@pytest.fixture(params=["mach", "message", "socket"])
def transport(request: pytest.FixtureRequest, no_leftovers: None) -> Iterator[Transport]:
    """Each of them in turn."""
    with TRANSPORTS[request.param]() as chosen:
        yield chosen
