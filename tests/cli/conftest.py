"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transports.message.fresh_host import fresh_host


@pytest.fixture(scope="session", autouse=True)
def folder() -> Iterator[Path]:
    """The runtime folder of all these commands."""
    with fresh_host() as path:
        yield path


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 10,000 small files, all different, to be left as it is."""
    root = tmp_path_factory.mktemp("tree")
    for outer in range(100):
        folder = root / f"{outer:02}"
        folder.mkdir()
        for inner in range(100):
            (folder / f"{inner:02}").write_bytes(b"%d-%d" % (outer, inner) * (inner % 50))
    return root
