"""A signal handler raises while a thread begins or ends to read in a mode: it can do so again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import get_ident
from typing import Any

import pytest

from portkit import MachPort, Port, RunLoop
from portkit.link.reading import Reading
from portkit.runloop.pump import PumpSource
from tests.link.helpers import Pair
from tests.support import PATIENCE, LoopThread

pytestmark = pytest.mark.own_thread


@pytest.fixture
def handle() -> Iterator[Port]:
    """To a port that another thread answers at."""
    with Pair() as pair, LoopThread() as thread, MachPort(lambda message: b"!") as port:
        thread.loop.add_port(port)
        yield pair.open(port)


def struck_once(call: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """The method, which a signal handler's exception leaves before or after it has run, once.

    In this thread, as for signals.
    """
    strikes, thread = [KeyboardInterrupt()], get_ident()

    def method(*args: Any, **kwargs: Any) -> Any:
        if strikes and not after and get_ident() == thread:
            raise strikes.pop()
        result = call(*args, **kwargs)
        if strikes and get_ident() == thread:
            raise strikes.pop()
        return result

    return method


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (RunLoop, "_add"),
        (PumpSource, "_enter"),
        (PumpSource, "_leave"),
        (Reading, "_hand_to"),
        (Reading, "read_in_mode"),
        (Reading, "stop_reading"),
        (Reading, "_pass_on"),
    ],
)
def test_it_can_ask_again(
    handle: Port, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, after: bool
) -> None:
    with MachPort() as served:
        RunLoop.current().add_port(served, "mode")
        assert handle.request(b"?", reply_mode="mode", reply_timeout=PATIENCE).data == b"!"
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, struck_once(getattr(owner, name), after=after))
            with suppress(KeyboardInterrupt):  # of what is called where another thread reads
                handle.request(b"?", reply_mode="mode", reply_timeout=PATIENCE)
        for _ in range(3):
            assert handle.request(b"?", reply_mode="mode", reply_timeout=PATIENCE).data == b"!"
            assert handle.request(b"?", reply_timeout=PATIENCE).data == b"!"
