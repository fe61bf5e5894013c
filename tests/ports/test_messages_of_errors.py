"""Errors that a beginner makes: each says what to do instead."""

from __future__ import annotations

from typing import Any

import pytest

from portkit import (
    DEFAULT_MODE,
    InputSource,
    MachPort,
    ReplyDroppedError,
    RunLoop,
    SendTimeoutError,
)
from tests.support import Reports

pytestmark = pytest.mark.own_thread


@pytest.mark.parametrize("wrong", [5, "port", InputSource(print)])
def test_only_a_port_is_added_as_one(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a Port, not {type(wrong).__name__}"):
        RunLoop.current().add_port(wrong)


@pytest.mark.parametrize("wrong", [5, "text"])
def test_what_is_no_answer_is_reported_as_such(wrong: Any, reports: Reports) -> None:
    with MachPort(lambda message: wrong) as port:
        RunLoop.current().add_port(port)
        with pytest.raises(ReplyDroppedError, match="its log says so"):
            port.request(reply_mode=DEFAULT_MODE)
    [error] = reports.take()
    assert str(error).startswith("what the delegate returned is no answer: ")


def test_own_full_queue_is_not_waited_for() -> None:
    with MachPort(print, queue_limit=1) as port:
        RunLoop.current().add_port(port)
        port.send()
        with pytest.raises(SendTimeoutError, match="only this thread's run loop") as caught:
            port.send(timeout=None)
        assert "timeout=" not in str(caught.value)
