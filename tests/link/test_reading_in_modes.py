"""A loop that waits for answers in a mode, and is called back in it: it comes to read for good.

The service thread looks after nothing here: what nobody reads is answered never.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import Any

import pytest

from portkit import MachPort, Port, PortMessage, RunLoop
from portkit._wakeup import Waiter
from portkit.link import service
from portkit.link.node import Settings
from portkit.link.reading import Reading
from portkit.runloop.pump import PumpSource
from tests.link.helpers import Pair
from tests.link.test_interrupted_reading import struck_once
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, eventually

pytestmark = pytest.mark.own_thread


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    with Pair(Settings(heartbeat=None)) as pair:
        for link in (pair.left, pair.right):
            link.reading.adopt()
        monkeypatch.setattr(service, "look_after", lambda neglected: None)
        # On the right it reads whenever nobody else does: of interest is the left alone.
        pair.right.reading.add_onlooker()
        yield pair


def call_back(message: PortMessage) -> bytes:
    for port in message.ports:
        assert port.request(b"back", reply_timeout=PATIENCE).data == b"here"
    return b"!"


@pytest.fixture
def handle(pair: Pair) -> Iterator[Port]:
    """To a port of another thread, which calls back before it answers."""
    with LoopThread() as thread, MachPort(call_back) as port:
        thread.loop.add_port(port)
        yield pair.open(port)


class Held:
    """A port on the right, of a thread of its own, that calls back and answers when it may.

    Attributes:
        begun: it was asked.
        end: it may answer.
        handle: to it.
    """

    def __init__(self, pair: Pair, stack: ExitStack) -> None:
        self.begun, self.end = Event(), Event()
        thread = stack.enter_context(LoopThread())
        port = stack.enter_context(MachPort(self._answer))
        thread.loop.add_port(port)
        self.handle: Port = pair.open(port)
        stack.callback(self.end.set)

    def _answer(self, message: PortMessage) -> bytes:
        self.begun.set()
        assert self.end.wait(PATIENCE)
        return call_back(message)


def become_home(pair: Pair, port: MachPort) -> None:
    """Have this thread's loop read for the port."""
    loop = RunLoop.current()
    port.delegate = lambda message: None
    loop.add_port(port)
    pair.across(port).send(b"?")
    assert eventually(
        lambda: loop.run_in_mode("default", 0.01) and pair.left.reading._home is not None
    )


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


@pytest.mark.parametrize("what", ["leaves", "enters a mode", "stays, and another one leaves"])
def test_in_the_call_back_the_port(what: str, pair: Pair, handle: Port) -> None:
    """Whatever loop serves the ports now: the wait goes on at once."""
    loop = RunLoop.current()

    def reschedule(message: PortMessage) -> bytes:
        if what == "leaves":
            loop.remove_port(desk, "mode")
        elif what == "enters a mode":
            loop.add_port(desk, "other")
        else:
            loop.remove_port(another, "other")
        return b"here"

    with MachPort(reschedule) as desk, MachPort() as another, MachPort() as stays:
        there = pair.across(another)
        loop.add_port(stays, "mode")
        for _ in range(3):
            loop.add_port(desk, "mode")
            loop.add_port(another, "other")
            ask(handle, desk)
            ask(handle)
            loop.remove_port(desk, "other")
        del there


def test_a_mode_without_a_descriptor_for_its_poller(
    pair: Pair, handle: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads goes on."""
    loop = RunLoop.current()
    with MachPort() as other, MachPort(lambda message: b"here") as desk:
        become_home(pair, other)
        loop._poller(loop._table.ensure("mode"))
        for mode in ("mode", "other"):
            loop.add_port(desk, mode)

        def none() -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patched:
            patched.setattr("portkit.runloop.loop.new_poller", none)
            ask(handle, desk)
        ask(handle, desk)


def test_a_thread_that_took_the_role_from_its_own_loop_gives_it_to_another(pair: Pair) -> None:
    """Then its loop reads no more, until it is its turn again."""
    reading = pair.left.reading
    with (
        MachPort() as other,
        MachPort(lambda message: b"here") as desk,
        LoopThread() as second,
        ExitStack() as stack,
    ):
        become_home(pair, other)
        RunLoop.current().add_port(desk, "mode")
        ours, seconds, thirds, last = (Held(pair, stack) for _ in range(4))

        def begin_second() -> None:
            assert ours.begun.wait(PATIENCE)
            asked = Background(partial(second.call, partial(ask, seconds.handle)))
            assert eventually(lambda: reading._temporary is not None)
            ours.end.set()
            asked.result()

        begun = Background(begin_second)
        assert ours.handle.request(b"?", reply_timeout=PATIENCE).data == b"!"
        third = Background(partial(thirds.handle.request, b"?", reply_timeout=PATIENCE))
        assert eventually(lambda: isinstance(reading._reader, Waiter))
        seconds.end.set()
        begun.result()

        def end_third() -> None:
            assert eventually(lambda: reading._temporary is not None)
            thirds.end.set()
            third.result()
            last.end.set()

        ended = Background(end_third)
        ask(last.handle, desk)
        ended.result()


@pytest.mark.parametrize("name", ["leave", "_pass_on", "_hand_to"])
def test_interrupted_as_a_wait_ends(
    pair: Pair, handle: Port, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    loop = RunLoop.current()
    with MachPort() as other, MachPort(lambda message: b"here") as desk:
        become_home(pair, other)
        loop.add_port(desk, "mode")
        with monkeypatch.context() as patched:
            patched.setattr(Reading, name, struck_once(getattr(Reading, name), after=False))
            with pytest.raises(KeyboardInterrupt):
                handle.request(b"?", reply_timeout=PATIENCE)
        for _ in range(2):
            ask(handle, desk)


def test_its_end_hands_reading_over(
    pair: Pair, handle: Port, sources: list[PumpSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopThread() as ending, MachPort(lambda message: b"here") as desk:
        ending.loop.add_port(desk, "mode")
        ending.call(ask, handle, desk)
        assert [source.is_valid for source in sources] == [True]
        monkeypatch.undo()
    assert eventually(lambda: pair.left.service_source.is_reader, PATIENCE)
    with MachPort() as mine:
        pair.across(mine).send(b"read by whom")
        assert mine.receive(PATIENCE).data == b"read by whom"
