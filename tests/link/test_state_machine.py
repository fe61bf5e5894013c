"""Rights on their way through three processes and two links, at random, against a model.

A message arrives at the port that was meant or not at all; a port that comes home is itself;
when everything was dropped, nothing is left in any table.
"""

from __future__ import annotations

import gc
import os
from itertools import count
from threading import Thread
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from portkit import InvalidPortError, MachPort, Port, PortError, PortMessage, ReplyDroppedError
from portkit.link.link import Link
from tests.link.helpers import Pair
from tests.support import PATIENCE, eventually, run_on_thread

STRESS = bool(os.environ.get("PORTKIT_STRESS"))
NUMBERS = st.integers(0, 1 << 16)
LAST = 2
"""The places are 0, 1 and 2; link n joins n and n + 1."""


class Held(NamedTuple):
    """A port, or a handle to it, that somebody has."""

    place: int
    port: Port
    meant: int


class Span:
    """A link between two places, with a door at each end through which ports are sent."""

    def __init__(self) -> None:
        self.pair = Pair()
        self.doors = (MachPort(), MachPort())  # on the left, on the right
        self.to_right = self.pair.open(self.doors[1])
        self.to_left = self.pair.across(self.doors[0])

    def door(self, *, rightward: bool) -> tuple[Port, MachPort]:
        """What to send to, and where it arrives."""
        return (self.to_right, self.doors[1]) if rightward else (self.to_left, self.doors[0])

    def close(self) -> None:
        self.pair.close()
        for door in self.doors:
            door.invalidate()


class Rights(RuleBasedStateMachine):
    """Makes, sends, uses, drops and ends ports, and cuts links."""

    def __init__(self) -> None:
        super().__init__()
        self.spans = [Span(), Span()]
        self.ports: dict[int, MachPort] = {}
        self.homes: dict[int, int] = {}
        self.held: list[Held] = []
        self.numbers = count(1)
        self.silent: dict[int, int] = {}
        self.exported: set[int] = set()

    # Who has what.

    def pick(self, number: int) -> Held:
        return self.held[number % len(self.held)]

    def add(self, place: int, port: Port, meant: int) -> None:
        self.held.append(Held(place, port, meant))

    @rule(place=st.integers(0, LAST))
    def make(self, place: int) -> None:
        meant = next(self.numbers)
        port = self.ports[meant] = MachPort()
        self.homes[meant] = place
        self.silent[meant] = 0

        def no_senders(_: Port) -> None:
            self.silent[meant] += 1

        # Called by the service thread: this thread's loop does not run.
        run_on_thread(lambda: port.add_no_senders_handler(no_senders))
        self.add(place, port, meant)

    @precondition(lambda self: self.held)
    @rule(number=NUMBERS)
    def drop(self, number: int) -> None:
        held = self.pick(number)
        if held.port is not self.ports.get(held.meant):
            self.held.remove(held)

    @precondition(lambda self: self.held)
    @rule(number=NUMBERS)
    def end(self, number: int) -> None:
        meant = self.pick(number).meant
        self.ports.pop(meant).invalidate()
        for held in self.held:
            if held.meant == meant:
                assert eventually(lambda h=held: not h.port.is_valid), held  # type: ignore[misc]
        self.held = [held for held in self.held if held.meant != meant]

    @precondition(lambda self: self.held)
    @rule(number=NUMBERS, rightward=st.booleans(), large=st.booleans(), answer_to=st.booleans())
    def travel(self, number: int, rightward: bool, large: bool, answer_to: bool) -> None:
        """Send a port over a link, as a component or as the port to answer to."""
        held = self.pick(number)
        place = self.step(held.place, rightward)
        if place is None:
            return
        send_to, door = self.span(held.place, rightward).door(rightward=rightward)
        body = bytes(100_000) if large else b"x"
        if answer_to:
            send_to.send(body, reply_port=held.port, timeout=PATIENCE)
        else:
            send_to.send([held.port, body], timeout=PATIENCE)
        message = door.receive(PATIENCE)
        port = message.send_port if answer_to else message.ports[0]
        assert port is not None
        if self.homes[held.meant] == held.place:
            self.exported.add(held.meant)
        if self.homes[held.meant] == place:
            assert port is self.ports[held.meant], "a port that comes home is itself"
        else:
            same = [h for h in self.held if h.place == place and h.meant == held.meant]
            assert all(port == h.port and hash(port) == hash(h.port) for h in same)
            self.add(place, port, held.meant)

    def step(self, place: int, rightward: bool) -> int | None:
        place += 1 if rightward else -1
        return place if 0 <= place <= LAST else None

    def span(self, place: int, rightward: bool) -> Span:
        return self.spans[place if rightward else place - 1]

    # Using what one has.

    @precondition(lambda self: self.held)
    @rule(number=NUMBERS, size=st.sampled_from([1, 5000, 70_000, 300_000]))
    def send(self, number: int, size: int) -> None:
        held = self.pick(number)
        body = next(self.numbers).to_bytes(8, "little").ljust(size, b".")
        held.port.send([body], timeout=PATIENCE)
        assert self.ports[held.meant].receive(PATIENCE).data == body

    @precondition(lambda self: self.held)
    @rule(number=NUMBERS, burst=st.integers(2, 200))
    def send_burst(self, number: int, burst: int) -> None:
        held = self.pick(number)
        bodies = [next(self.numbers).to_bytes(8, "little") for _ in range(burst)]
        sender = Thread(target=lambda: held.port.send_many(bodies, timeout=PATIENCE))
        sender.start()
        assert [self.ports[held.meant].receive(PATIENCE).data for _ in bodies] == bodies
        sender.join(PATIENCE)

    @precondition(lambda self: self.held)
    @rule(number=NUMBERS, how=st.sampled_from(["answer", "drop", "end"]), away=st.integers(0, 2))
    def ask(self, number: int, how: str, away: int) -> None:
        """A request, whose send-once right goes over up to two links before it is used."""
        held = self.pick(number)
        outcome: list[bytes | PortError | None] = []

        def request() -> None:
            try:
                outcome.append(held.port.request(b"?", reply_timeout=PATIENCE).data)
            except PortError as error:
                outcome.append(type(error)(str(error)))

        thread = Thread(target=request)
        thread.start()
        if how == "end":
            assert eventually(lambda: self.ports[held.meant].pending or outcome)
            self.end(number)
        else:
            self.settle_request(held, self.ports[held.meant].receive(PATIENCE), how, away)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        if how == "answer":
            assert outcome == [b"!"]
        else:
            assert isinstance(
                outcome[0], InvalidPortError if how == "end" else ReplyDroppedError
            ), outcome

    def settle_request(self, held: Held, message: PortMessage, how: str, away: int) -> None:
        once = message.send_port
        assert once is not None
        message.defer()
        place = self.homes[held.meant]
        for rightward in [place == 0] * away:
            target = self.step(place, rightward)
            if target is None:
                break
            send_to, door = self.span(place, rightward).door(rightward=rightward)
            send_to.send([once], timeout=PATIENCE)
            (once,) = door.receive(PATIENCE).ports
            place = target
        if how == "answer":
            once.send(b"!")
        else:
            once.invalidate()

    # Faults.

    @rule(index=st.integers(0, 1), left=st.booleans())
    def cut(self, index: int, left: bool) -> None:
        """A connection is lost, and another one made."""
        span = self.spans[index]
        (span.pair.left if left else span.pair.right).close()
        # What was reached over it is no more: all that is on the other side than the port.
        for held in list(self.held):
            home = self.homes[held.meant]
            if min(home, held.place) <= index < max(home, held.place):
                assert eventually(lambda h=held: not h.port.is_valid), held  # type: ignore[misc]
                self.held.remove(held)
        span.close()
        self.spans[index] = Span()

    def teardown(self) -> None:
        self.held.clear()
        gc.collect()
        links = [link for span in self.spans for link in (span.pair.left, span.pair.right)]
        try:
            # Each end has its right to the other's door left; the left one has opened it.
            assert eventually(lambda: all(map(is_bare, links)), 5.0), [describe(x) for x in links]
            for meant, port in self.ports.items():
                assert port._senders == ()
                if meant in self.exported:
                    assert eventually(lambda n=meant: self.silent[n] > 0)  # type: ignore[misc]
        finally:
            for span in self.spans:
                span.close()
            for port in self.ports.values():
                port.invalidate()
            self.ports.clear()
        gc.collect()
        assert eventually(lambda: all(map(is_empty, links)), 5.0), [describe(x) for x in links]


def is_bare(link: Link) -> bool:
    table = link.table
    return (
        len(table.exports) <= 1
        and len(table._imports) <= 1
        and not table._once
        and not table.asked
        and not table._relayed
        and not link.notes
    )


def is_empty(link: Link) -> bool:
    table = link.table
    return not (table.exports or table._imports or table._once or table.asked or table._relayed)


def describe(link: Link) -> str:
    table = link.table
    return (
        f"exports {[(e.number, e.handed, e.port) for e in table.exports.values()]} "
        f"imports {[(n, r()) for n, r in table._imports.items()]} once {list(table._once)} "
        f"relayed {len(table._relayed)} notes {len(link.notes)}"
    )


TestRights = pytest.mark.timeout(600 if STRESS else 60)(Rights.TestCase)
TestRights.settings = settings(
    max_examples=200 if STRESS else 20,
    stateful_step_count=60 if STRESS else 25,
    deadline=None,
    derandomize=not STRESS,
    suppress_health_check=list(HealthCheck),
)
