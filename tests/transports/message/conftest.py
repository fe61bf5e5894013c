"""For each test a runtime folder, a host and a second process: no test finds what is another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transports.message import roles
from tests.transports.message.fresh_host import fresh_host
from tests.transports.message.processes import Child


@pytest.fixture
def folder(no_leftovers: None) -> Iterator[Path]:
    """The runtime folder of this test and its children; all links are closed after it."""
    with fresh_host() as path:
        yield path


@pytest.fixture
def child(folder: Path) -> Iterator[Child]:
    """Another process, in which a port named "them" is served."""
    with Child() as child:
        child.call(roles.open_port, "them")
        yield child
