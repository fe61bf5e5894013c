"""Four processes that all send to each other at once: in order, none lost, none doubled."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack

import pytest

from tests.support import PATIENCE
from tests.transports.processes import crowd
from tests.transports.processes.child import Start

_SIZE = 4
_TOTAL = int(os.environ.get("PORTKIT_STRESS", "40000"))
"""Messages in all; 1000000 takes a minute or so."""


@pytest.mark.timeout(60 + _TOTAL / 5000)
def test_everything_arrives_in_order(start: Start) -> None:
    patience = 50 + _TOTAL / 5000
    each = -(-_TOTAL // (_SIZE * (_SIZE - 1)))
    with ExitStack() as stack:
        members = [stack.enter_context(start()) for _ in range(_SIZE)]
        for index, member in enumerate(members):
            member.call(crowd.join, index, _SIZE, each)
        begin = time.monotonic()
        for member in members:
            member.begin(crowd.play, patience)
        results = [member.result(patience) for member in members]
        took = time.monotonic() - begin
    assert results == [(0, [])] * _SIZE
    print(f"{each * _SIZE * (_SIZE - 1)} messages in {took:.1f} s")


def test_one_of_them_is_killed(start: Start) -> None:
    """What the others send to each other arrives, in order."""
    with ExitStack() as stack:
        members = [stack.enter_context(start()) for _ in range(_SIZE)]
        for index, member in enumerate(members):
            member.call(crowd.join, index, _SIZE, 1000, _SIZE - 1)
        for member in members:
            member.begin(crowd.play, PATIENCE)
        results = [member.result() for member in members[:-1]]
        assert results == [(0, [])] * (_SIZE - 1)
        assert members[-1].process.wait(PATIENCE) == -signal.SIGKILL
