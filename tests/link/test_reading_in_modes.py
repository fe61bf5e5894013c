"""A loop that waits for answers in a mode, and is called back in it: it comes to read for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portkit import MachPort, Port, PortMessage, RunLoop
from portkit.runloop.pump import PumpSource
from tests.link.helpers import Pair
from tests.support import PATIENCE, LoopThread, eventually

pytestmark = pytest.mark.own_thread


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.fixture
def handle(pair: Pair) -> Iterator[Port]:
    """To a port of another thread, which calls back before it answers."""

    def call_back(message: PortMessage) -> bytes:
        for port in message.ports:
            assert port.request(b"back", reply_timeout=PATIENCE).data == b"here"
        return b"!"

    with LoopThread() as thread, MachPort(call_back) as port:
        thread.loop.add_port(port)
        yield pair.open(port)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> list[PumpSource]:
    """Those of the link's left end that have entered a mode, one entry for each time."""
    entered: list[PumpSource] = []
    enter: Callable[..., None] = PumpSource._enter
    link = pair.left
    assert link.channel is not None
    fd = link.channel.fileno()

    def noted(source: PumpSource, *args: Any) -> None:
        if source.fd == fd and source is not link.service_source:
            entered.append(source)
        enter(source, *args)

    monkeypatch.setattr(PumpSource, "_enter", noted)
    return entered


def ask(handle: Port, *ports: Port) -> None:
    answer = handle.request([b"?", *ports], reply_mode="mode", reply_timeout=PATIENCE)
    assert answer.data == b"!"


def test_once_called_back_it_keeps_it(handle: Port, sources: list[PumpSource]) -> None:
    with MachPort(lambda message: b"here") as desk:
        RunLoop.current().add_port(desk, "mode")
        for _ in range(3):
            ask(handle, desk)
            ask(handle)
        assert len(sources) == 1


def test_it_reads_in_the_other_modes_of_the_port_as_well(
    handle: Port, sources: list[PumpSource]
) -> None:
    loop = RunLoop.current()
    with MachPort(lambda message: b"here") as desk:
        for mode in ("mode", "other"):
            loop.add_port(desk, mode)
        ask(handle, desk)
        assert [source.is_in(loop._table.ensure("other")) for source in sources] == [True, True]
        for _ in range(3):
            answer = handle.request([b"?", desk], reply_mode="other", reply_timeout=PATIENCE)
            assert answer.data == b"!"
        assert len(sources) == 2


def test_a_loop_that_reads_already_does_so_in_that_mode_too(
    pair: Pair, handle: Port, sources: list[PumpSource]
) -> None:
    loop = RunLoop.current()
    got: list[bytes | None] = []
    with MachPort(lambda message: got.append(message.data)) as other:
        loop.add_port(other)
        there = pair.across(other)
        there.send(b"first")
        assert eventually(lambda: loop.run_in_mode("default", 0.01) and got)
        (home,) = sources
        with MachPort(lambda message: b"here") as desk:
            loop.add_port(desk, "mode")
            ask(handle, desk)
            assert home.is_in(loop._table.ensure("mode"))
            assert not any(source.is_valid for source in sources if source is not home)
            del sources[:]
            ask(handle, desk)
            there.send(b"second")
            assert eventually(lambda: loop.run_in_mode("default", 0.01) and len(got) == 2)
            assert not sources
            del there


def test_the_port_may_leave_the_loop(handle: Port, sources: list[PumpSource]) -> None:
    """In a call back, too."""
    loop = RunLoop.current()

    def leave(message: PortMessage) -> bytes:
        loop.remove_port(desk, "mode")
        return b"here"

    with MachPort(leave) as desk, MachPort() as stays:
        loop.add_port(stays, "mode")
        for _ in range(3):
            loop.add_port(desk, "mode")
            ask(handle, desk)
            ask(handle)
        assert not any(source.is_valid for source in sources)


def test_its_end_hands_reading_over(pair: Pair, handle: Port, sources: list[PumpSource]) -> None:
    with LoopThread() as ending, MachPort(lambda message: b"here") as desk:
        ending.loop.add_port(desk, "mode")
        ending.call(ask, handle, desk)
        assert [source.is_valid for source in sources] == [True]
    assert eventually(lambda: pair.left.service_source.is_reader, PATIENCE)
    with MachPort() as mine:
        pair.across(mine).send(b"read by whom")
        assert mine.receive(PATIENCE).data == b"read by whom"
