"""Requests over links that are waited for no more: the other side is told, and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from threading import Event, get_ident
from typing import Any

import pytest

from portkit import (
    MachPort,
    Port,
    PortMessage,
    ReceiveTimeoutError,
    ReplyPort,
)
from portkit.link import frames
from portkit.link.frames import Kind
from tests.link.helpers import Pair
from tests.link.raw import DOOR, RawPeer, Victim
from tests.link.test_order import INLINE, SIZE, not_reading
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, eventually


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made


def give_up(handle: Port, data: Any = b"?") -> None:
    """Ask, and look once whether there is an answer."""
    with pytest.raises(ReceiveTimeoutError):
        handle.request(data, reply_timeout=0)


def look_once(handle: Port) -> None:
    """The same where an answer may be there in time."""
    try:
        handle.request(b"?", reply_timeout=0)
    except ReceiveTimeoutError:
        pass


def right_of(request: PortMessage) -> ReplyPort:
    """The right to answer it."""
    assert isinstance(request.send_port, ReplyPort)
    return request.send_port


def told_of(message: PortMessage) -> Event:
    """An event that is set when the request is given up; added by a thread without a run loop."""
    told = Event()
    Background(lambda: message.add_abandon_handler(lambda port: told.set())).result()
    return told


def nothing_is_open(pair: Pair) -> bool:
    """Whether neither side remembers a request."""
    tables = (pair.left.table, pair.right.table)
    return not any(table._once or table.asked for table in tables)


class TestTold:
    def test_the_one_who_has_it(self, pair: Pair) -> None:
        with MachPort() as port:
            give_up(pair.open(port))
            message = port.receive(PATIENCE)
            told = told_of(message)
            assert told.wait(PATIENCE)
            assert message.is_abandoned
            message.reply(b"late")  # goes nowhere
            assert nothing_is_open(pair)

    def test_on_the_loop_of_who_asked_for_it(self, pair: Pair) -> None:
        told: list[int] = []
        done = Event()

        def delegate(message: PortMessage) -> None:
            def handler(port: Port) -> None:
                told.append(get_ident())
                done.set()

            message.add_abandon_handler(handler)
            message.defer()
            kept.append(message)

        kept: list[PortMessage] = []
        with LoopThread() as thread, MachPort(delegate) as port:
            thread.loop.add_port(port)
            give_up(pair.open(port))
            assert done.wait(PATIENCE)
            assert told == [thread.thread.ident]

    def test_though_nobody_asked_to_be(self, pair: Pair) -> None:
        with MachPort() as port:
            give_up(pair.open(port))
            message = port.receive(PATIENCE)
            assert eventually(lambda: message.is_abandoned)

    def test_by_the_end_of_the_link(self, pair: Pair) -> None:
        with MachPort() as port:
            asker = Background(partial(pair.open(port).request, reply_timeout=None))
            message = port.receive(PATIENCE)
            told = told_of(message)
            before = message.is_abandoned
            pair.left.close()
            assert told.wait(PATIENCE)
            assert (before, message.is_abandoned) == (False, True)
            with pytest.raises(Exception, match="ended"):
                asker.result()

    def test_not_of_a_request_that_was_answered(self, pair: Pair) -> None:
        told: list[Port] = []
        with MachPort() as port:
            asker = Background(partial(pair.open(port).request, reply_timeout=None))
            message = port.receive(PATIENCE)
            message.add_abandon_handler(told.append)
            message.reply(b"!")
            asker.result()
            pair.left.close()
            assert eventually(lambda: pair.right.is_closed)
            assert not message.is_abandoned
        assert told == []

    def test_an_answer_that_could_not_be_sent_while_it_was_given_up(self, pair: Pair) -> None:
        with MachPort() as port:
            give_up(pair.open(port))
            message = port.receive(PATIENCE)
            answer = message.send_port._answer  # type: ignore[union-attr]
            told = told_of(message)
            with pytest.raises(TypeError):
                message.reply(["no component"])  # type: ignore[list-item]
            assert told.wait(PATIENCE)
            assert answer.abandoned


class TestHandedOn:
    def test_within_the_process(self, pair: Pair) -> None:
        with MachPort() as port, MachPort() as next_port:
            asker = Background(lambda: give_up_after(pair.open(port), 0.2))
            first = port.receive(PATIENCE)
            next_port.send(b"yours", reply_port=first.send_port)
            message = next_port.receive(PATIENCE)
            told = told_of(message)
            assert told.wait(PATIENCE)
            asker.result()

    @pytest.mark.parametrize("how", ["reply port", "component"])
    def test_back_over_the_link_it_came_by(self, pair: Pair, how: str) -> None:
        with MachPort() as port, MachPort() as home:
            asker = Background(lambda: give_up_after(pair.open(port), 0.2))
            first = port.receive(PATIENCE)
            away = pair.across(home)
            if how == "reply port":
                away.send(b"yours", reply_port=first.send_port)
                right = home.receive(PATIENCE).send_port
            else:
                away.send([b"yours", right_of(first)])
                (right,) = home.receive(PATIENCE).ports
            assert isinstance(right, ReplyPort)
            assert eventually(lambda: right.is_abandoned)
            asker.result()
            assert eventually(lambda: nothing_is_open(pair))

    def test_through_a_process_in_the_middle(self) -> None:
        with Pair() as near, Pair() as far, MachPort() as port:
            relayed = near.across(far.open(port))
            asker = Background(lambda: give_up_after(relayed, 0.2))
            message = port.receive(PATIENCE)
            told = told_of(message)
            assert told.wait(PATIENCE)
            asker.result()
            assert eventually(lambda: nothing_is_open(near) and nothing_is_open(far))

    def test_while_it_waits_in_the_middle_for_room(self) -> None:
        with Pair() as near, Pair() as far, MachPort(queue_limit=1) as slow:
            relayed = near.across(far.open(slow))
            for number in range(4):
                give_up(relayed, b"%d" % number)
            for number in range(4):
                message = slow.receive(PATIENCE)
                assert message.data == b"%d" % number
                assert eventually(lambda m=message: m.is_abandoned)  # type: ignore[misc]
            assert eventually(lambda: nothing_is_open(near) and nothing_is_open(far))

    def test_the_end_of_one_link_gives_it_up_on_the_next(self) -> None:
        with Pair() as near, Pair() as far, MachPort() as port:
            relayed = near.across(far.open(port))
            asker = Background(partial(relayed.request, reply_timeout=None))
            message = port.receive(PATIENCE)
            near.right.close()
            assert eventually(lambda: message.is_abandoned)
            with pytest.raises(Exception, match="ended"):
                asker.result()


def give_up_after(handle: Port, seconds: float) -> None:
    """Ask, and wait so long."""
    with pytest.raises(ReceiveTimeoutError):
        handle.request(b"?", reply_timeout=seconds)


class TestOrder:
    def test_not_before_a_large_request(self) -> None:
        with Pair(INLINE) as pair, MachPort() as port:
            handle = pair.open(port)
            with not_reading(pair):
                give_up(handle, bytes(SIZE))
            message = port.receive(PATIENCE)
            assert len(message.data or b"") == SIZE
            assert eventually(lambda: message.is_abandoned)
            assert not pair.right.is_closed

    def test_not_before_a_large_message_that_hands_it_on(self) -> None:
        with Pair(INLINE) as pair, MachPort() as port, MachPort() as asked:
            handle = pair.open(port)
            asker = Background(lambda: give_up_after(asked, 0.1))
            request = asked.receive(PATIENCE)
            with not_reading(pair):
                handle.send([bytes(SIZE), right_of(request)])
                asker.result()
            (right,) = port.receive(PATIENCE).ports
            assert eventually(lambda: right.is_abandoned)
            assert not pair.right.is_closed


class TestRemembered:
    def test_nothing_by_requests_that_time_out(self, pair: Pair) -> None:
        with MachPort(queue_limit=64) as port:
            handle = pair.open(port)
            for _ in range(300):
                give_up(handle)
                port.receive(PATIENCE)
            assert eventually(lambda: not pair.left.table._once)
            assert eventually(lambda: not pair.right.table.asked)

    def test_nothing_though_nobody_ever_answers(self, pair: Pair) -> None:
        with MachPort() as port:
            handle = pair.open(port)
            for _ in range(100):
                give_up(handle)
            assert eventually(lambda: nothing_is_open(pair))
            kept = [port.receive(PATIENCE) for _ in range(100)]
            assert all(message.is_abandoned for message in kept)

    def test_answers_that_cross_are_ignored(self, pair: Pair) -> None:
        """And what they carry goes: ports, and requests in them."""
        with MachPort() as port, ExitStack() as stack:
            handle = pair.open(port)
            for number in range(50):
                asker = Background(lambda: look_once(handle))
                message = port.receive(PATIENCE)
                desk = stack.enter_context(MachPort())
                if not message.is_abandoned:
                    message.reply([b"%d" % number, desk])
                if number % 2:
                    asker.result()
            assert eventually(lambda: nothing_is_open(pair))
            assert eventually(lambda: len(pair.left.table._imports) == 1)
            handle.send(b"the link lives")
            assert port.receive(PATIENCE).data == b"the link lives"

    def test_a_link_that_carries_nothing_else_ends(self, pair: Pair) -> None:
        with MachPort() as port:
            handle = pair.open(port)
            give_up(handle)
            message = port.receive(PATIENCE)
            for node in (pair.left_node, pair.right_node):
                node.keeps = lambda: False
            handle.invalidate()
            del handle
            assert eventually(lambda: pair.left.is_closed and pair.right.is_closed)
            assert message.is_abandoned


class TestRawPeer:
    def test_what_is_given_up_again_or_after_the_answer_is_ignored(self) -> None:
        with Victim() as victim, RawPeer(victim.right_node) as peer:
            peer.greet().open_door()
            for once in (1, 2):
                peer.send(frames.simple_message(Kind.MESSAGE, DOOR, 0, once, b"?"))
            first, second = victim.door.receive(PATIENCE), victim.door.receive(PATIENCE)
            first.reply(b"!")
            while peer.next().kind != Kind.REPLY:
                pass
            peer.send((frames.give_up(1) + frames.give_up(2)) * 1000)
            assert eventually(lambda: second.is_abandoned)
            assert not first.is_abandoned
            second.reply(b"late")
            peer.send(frames.ping())
            assert peer.next().kind == Kind.PONG  # and no answer to what was given up
            victim.check_unharmed()

    def test_a_flood_of_requests_given_up_at_once_leaves_nothing(self) -> None:
        with Victim() as victim, RawPeer(victim.right_node) as peer:
            peer.greet().open_door()
            for once in range(1, 200):
                request = frames.simple_message(Kind.MESSAGE, DOOR, 0, once, b"?")
                peer.send(request + frames.give_up(once))
                message = victim.door.receive(PATIENCE)
                assert eventually(lambda m=message: m.is_abandoned)  # type: ignore[misc]
            assert not peer.link.table.asked
            victim.check_unharmed()

    def test_what_the_victim_gives_up(self) -> None:
        with Victim() as victim, RawPeer(victim.right_node) as peer:
            peer.greet().open_door()
            mine = frames.Entry(frames.Part.MINE, 99, 1, 1 << 20)
            peer.send(frames.message(Kind.MESSAGE, DOOR, 0, 0, [mine], []))
            (back,) = victim.door.receive(PATIENCE).ports
            give_up(back)
            came = [peer.next(), peer.next()]
            while came[-1].kind != Kind.GIVE_UP:
                came.append(peer.next())
            assert came[-1].body == (1).to_bytes(8, "little")
            peer.send(frames.simple_message(Kind.REPLY, 1, 0, 0, b"late"))
            peer.send(frames.failed(1, 1, "late"))
            peer.send(frames.ping())
            while peer.next().kind != Kind.PONG:
                pass
            victim.check_unharmed()
