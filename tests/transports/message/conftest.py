"""For each test a runtime folder and a host of its own: no test finds what is another's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transports.message.fresh_host import fresh_host
from tests.transports.processes.ways import ByName


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder whose path is short, as a socket's has to be: pytest's grows with its runs."""
    with tempfile.TemporaryDirectory(prefix="pk-") as path:
        yield Path(path)


@pytest.fixture
def folder(no_leftovers: None) -> Iterator[Path]:
    """The runtime folder of this test and its children; all links are closed after it."""
    with fresh_host() as path:
        yield path


@pytest.fixture
def way(folder: Path) -> ByName:
    """By names, as the tests of this folder are about."""
    return ByName()
