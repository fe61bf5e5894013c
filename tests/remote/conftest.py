"""The other side of a connection: a thread here, or another process, over each transport.

Which of them is the fixture ``there``, which calls functions there; ``here`` is how its ports are
reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from portkit_transports.socket import TLSConfig
from tests.remote import roles
from tests.remote.sides import ByReference, InProcess, OnThread, There
from tests.transports.processes.child import Child
from tests.transports.processes.conftest import WAYS, certificates, pki
from tests.transports.processes.nursery import Nursery
from tests.transports.processes.roles import Here, use
from tests.transports.processes.ways import Way

__all__ = ["certificates", "pki"]


@contextmanager
def mach(folder: Path, tls: TLSConfig) -> Iterator[Way]:
    """Within the process: messages pass by reference."""
    yield ByReference()


ALL: dict[str, Callable[[Path, TLSConfig], AbstractContextManager[Way]]] = {"mach": mach, **WAYS}


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What forks the other processes."""
    made = Nursery("tests.remote.roles")
    yield made
    made.close()


@pytest.fixture(params=ALL)
def way(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: TLSConfig, no_leftovers: None
) -> Iterator[Way]:
    """Each of them in turn."""
    with ALL[request.param](tmp_path, certificates) as chosen:
        before, Here.way = Here.way, chosen
        yield chosen
        Here.way = before


@pytest.fixture
def start(nursery: Nursery, way: Way) -> Callable[[], AbstractContextManager[There]]:
    """Starts one more side; use it in a ``with``."""

    @contextmanager
    def start() -> Iterator[There]:
        if isinstance(way, ByReference):
            with OnThread() as thread:
                yield thread
                thread.call(roles.end)
        else:
            with Child(nursery.fork) as child:
                child.call(use, way)
                yield InProcess(child)

    return start


@pytest.fixture
def there(start: Callable[[], AbstractContextManager[There]]) -> Iterator[There]:
    """The other side, where a desk is served as "desk"."""
    with start() as side:
        side.call(roles.serve, "desk")
        yield side


@pytest.fixture
def third(start: Callable[[], AbstractContextManager[There]]) -> Iterator[There]:
    """One more side, where a desk is served as "third"."""
    with start() as side:
        side.call(roles.serve, "third")
        yield side
