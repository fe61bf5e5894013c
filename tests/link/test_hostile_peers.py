"""Peers that keep to the protocol, and mean no good."""

from __future__ import annotations

import pytest

from portkit import MachPort
from portkit.link import frames
from portkit.link.frames import Entry, Kind, Part
from portkit.link.node import Settings
from tests.link.helpers import Pair
from tests.link.raw import DOOR, RawPeer, Victim
from tests.support import PATIENCE, eventually


def test_a_port_that_is_opened_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each of these rights has a window of its own, and the port's queue has to hold them all."""
    most = Settings().max_rights_per_port
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet()
        node = victim.right_node
        numbers = range(DOOR, DOOR + most)
        peer.send(b"".join(frames.open_right(n, b"D" * 16, node.incarnation) for n in numbers))
        assert [peer.next().kind for _ in numbers] == [Kind.CREDIT] * most
        peer.send(frames.release(DOOR, 1))  # makes room for another
        peer.send(frames.open_right(DOOR + most, b"D" * 16, node.incarnation))
        assert peer.next().kind == Kind.CREDIT
        assert len(victim.door._senders) == most
        peer.send(frames.open_right(DOOR + most + 1, b"D" * 16, node.incarnation))
        assert peer.is_dropped()
        assert f"more than {most} times" in caplog.text
        assert not victim.door._senders
        victim.check_unharmed()


def test_a_flood_of_pings_has_each_right_looked_at_once() -> None:
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        looked: list[int] = []
        table = peer.link.table
        grant_all = table.grant_all
        table.grant_all = lambda: (looked.append(1), grant_all())[1]  # type: ignore[func-returns-value,method-assign]
        nobody = frames.open_right(DOOR + 1, b"N" * 16, victim.right_node.incarnation)
        peer.send(frames.ping() * 1000 + nobody)
        while peer.next().kind != Kind.DEAD:
            pass
        assert 0 < len(looked) < 100
        victim.check_unharmed()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_right_that_is_let_go_of_again_and_again_has_one_window(
    at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As if each time a copy had been on its way, for which there were room anew."""
    with Victim() as victim, RawPeer(victim.right_node) as peer, MachPort(queue_limit=4) as port:
        peer.greet().open_door()
        peer.send(frames.message(Kind.MESSAGE, DOOR, 0, 0, [Entry(Part.MINE, 99, 1, 1 << 20)], []))
        (back,) = victim.door.receive(PATIENCE).ports
        for _ in range(20):
            back.send([port])
        while (came := peer.next()).kind != Kind.MESSAGE:
            pass
        number = int.from_bytes(came.body[28:36], "little")
        message = frames.simple_message(Kind.MESSAGE, number, 0, 0, b"x")
        if at_once:
            peer.send(frames.release(number, 1) * 19 + message * 5)
        else:
            peer.send_until_refused((message * 4 + frames.release(number, 1)) * 19)
        assert peer.is_dropped()
        assert "without room granted" in caplog.text
        assert port.pending <= 4
        victim.check_unharmed()


def test_who_lets_go_and_gets_it_again_can_always_send() -> None:
    """Copies cross releases all the time, and the window is small: it is neither lost nor more."""
    with Pair() as pair, MachPort(queue_limit=3) as port, MachPort(queue_limit=50) as right:
        door = pair.open(right)
        sent = taken = 0
        for number in range(600):
            door.send([port], timeout=PATIENCE)
            if number % 3:
                handle = right.receive(PATIENCE).ports[0]
                for _ in range(number % 4):
                    if sent - taken == 2:  # of what was taken, one may not be granted again yet
                        assert port.receive(PATIENCE).data == b"%d" % taken
                        taken += 1
                    handle.send(b"%d" % sent, timeout=PATIENCE)
                    sent += 1
                del handle
            elif right.pending:
                right.receive(PATIENCE)
        while taken < sent:
            assert port.receive(PATIENCE).data == b"%d" % taken
            taken += 1
        while right.pending:
            right.receive(PATIENCE)
        assert eventually(lambda: not port._senders)


HEADERS = {
    "nothing": b"",
    "no JSON": b"key",
    "a list": b"[]",
    "a number": b'{"key": 1}',
    "nested": b'{"key": {}}',
    "deep": b"[" * 4096,
    "too long": b'{"key": "' + b"x" * 4096 + b'"}',
    "no UTF-8": b'{"key": "\xff"}',
    "UTF-16": '{"key": "value"}'.encode("utf-16"),
    "a lone surrogate": b'{"key": "\\ud800"}',
    "one in a key": b'{"\\udfff": "value"}',
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=list(HEADERS))
def test_headers_that_are_none(headers: bytes, caplog: pytest.LogCaptureFixture) -> None:
    data = [b"data", headers]
    entries = [Entry(Part.DATA, 0, 0, len(part)) for part in data]
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(frames.message(Kind.MESSAGE, DOOR, 0, 0, entries, data, frames.HEADERS))
        assert peer.is_dropped()
        assert "a message's headers are" in caplog.text
        assert not victim.door.pending
        victim.check_unharmed()


def test_headers_that_are_fine() -> None:
    data = [b"data", '{"key": "\\ud83d\\ude00", "ключ": "значение"}'.encode()]
    entries = [Entry(Part.DATA, 0, 0, len(part)) for part in data]
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(frames.message(Kind.MESSAGE, DOOR, 0, 0, entries, data, frames.HEADERS))
        message = victim.door.receive(PATIENCE)
        assert message.data == b"data"
        assert message.headers == {"key": "\U0001f600", "ключ": "значение"}
