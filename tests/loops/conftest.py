"""Fixtures of tests with windows."""

from __future__ import annotations

import pytest

from tests.windows import check, display

__all__ = ["display"]


@pytest.fixture(params=["qt", "tk"])
def toolkit(request: pytest.FixtureRequest) -> str:
    """Each window system that is here."""
    name: str = request.param
    check(name)
    return name
