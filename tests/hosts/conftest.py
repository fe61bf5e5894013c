"""Two real hosts for a test, or one clear sentence why there are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.network import Network, why_not

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder's tests of two hosts where the machine does not allow them.

    With $PORTKIT_REQUIRE_HOSTS set, as .ci/run does where it allows them, they fail instead.
    """
    reason = "" if os.environ.get("PORTKIT_REQUIRE_HOSTS") else why_not()
    for item in items:
        if reason and item.path.is_relative_to(_HERE) and "network" in _fixtures(item):
            item.add_marker(pytest.mark.skip(reason=reason))


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


@pytest.fixture
def network(no_leftovers: None) -> Iterator[Network]:
    """Two hosts joined by a cable, for one test."""
    with Network() as network:
        yield network
