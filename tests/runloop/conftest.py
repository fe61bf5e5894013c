"""Fixtures of the run loop's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portkit.clock import ManualClock, use


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    """The clock of every loop, which jumps to the date that a loop would sleep until."""
    manual = ManualClock(jump=True)
    with use(manual):
        yield manual
