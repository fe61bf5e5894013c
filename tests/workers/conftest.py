"""Fixtures of the workers' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transports.message.fresh_host import fresh_host


@pytest.fixture
def folder(no_leftovers: None) -> Iterator[Path]:
    """The runtime folder of this test and its children; all links are closed after it."""
    with fresh_host() as path:
        yield path
