"""Second and third processes for the tests of ports between processes, whatever carries messages.

Which way they reach each other is the fixture ``way``, of which each folder has its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import LoopThread
from tests.transports.processes import roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.nursery import Nursery
from tests.transports.processes.ways import Way


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What forks the processes of all tests."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def start(nursery: Nursery, way: Way) -> Start:
    """Starts another process; use it in a ``with``."""

    def start() -> Child:
        child = Child(nursery.fork)
        child.call(roles.use, way)
        return child

    return start


@pytest.fixture
def child(start: Start) -> Iterator[Child]:
    """Another process, in which a port named "them" is served."""
    with start() as child:
        child.call(roles.open_port, "them")
        yield child


@pytest.fixture
def third(start: Start) -> Iterator[Child]:
    """One more, with a port named "third"."""
    with start() as child:
        child.call(roles.open_port, "third")
        yield child


@pytest.fixture
def loop(way: Way) -> Iterator[LoopThread]:
    """A run loop on a thread of its own."""
    with LoopThread() as thread:
        yield thread
