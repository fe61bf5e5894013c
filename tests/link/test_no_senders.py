"""No-senders: told each time the last right to a port that went over a link is gone."""

from __future__ import annotations

import gc
from threading import get_ident

import pytest

from portkit import MachPort, Port
from tests.link.helpers import Pair
from tests.support import LoopThread, Reports, eventually, run_on_thread


def counted(port: MachPort, seen: list[Port]) -> None:
    """Have the service thread note each time: the thread that asks for it has no run loop."""
    run_on_thread(lambda: port.add_no_senders_handler(seen.append))


def test_each_time_the_last_one_goes() -> None:
    seen: list[Port] = []
    with Pair() as pair, MachPort() as port:
        counted(port, seen)
        for times in range(1, 4):
            handle = pair.across(port)
            assert len(seen) == times - 1
            del handle
            gc.collect()
            assert eventually(lambda n=times: len(seen) == n)  # type: ignore[misc]
        assert seen == [port] * 3


def test_not_while_another_link_has_one() -> None:
    seen: list[Port] = []
    with Pair() as one, Pair() as other, MachPort() as port:
        counted(port, seen)
        first, second = one.across(port), other.across(port)
        del first
        gc.collect()
        assert eventually(lambda: len(port._senders) == 1)
        assert not seen
        del second
        gc.collect()
        assert eventually(lambda: len(seen) == 1)


def test_copies_count_as_one() -> None:
    seen: list[Port] = []
    with Pair() as pair, MachPort() as port:
        counted(port, seen)
        handles = [pair.across(port) for _ in range(5)]
        assert len(set(handles)) == 1
        (export,) = pair.left.table.exports.values()
        assert export.handed == 5
        handles.pop()
        assert not seen
        handles.clear()
        gc.collect()
        assert eventually(lambda: len(seen) == 1)
        assert not pair.left.table.exports


def test_those_who_came_by_address_count() -> None:
    seen: list[Port] = []
    with Pair() as pair, MachPort() as port:
        counted(port, seen)
        handle = pair.open(port)
        assert eventually(lambda: len(port._senders) == 1)
        del handle
        gc.collect()
        assert eventually(lambda: len(seen) == 1)


def test_a_link_that_ends_takes_its_rights_along() -> None:
    seen: list[Port] = []
    with MachPort() as port, Pair() as pair:
        counted(port, seen)
        handle = pair.across(port)
        pair.right.close()
        assert eventually(lambda: len(seen) == 1)
        assert not handle.is_valid


def test_who_relays_holds_one() -> None:
    seen: list[Port] = []
    with Pair() as one, Pair() as other, MachPort() as port:
        counted(port, seen)
        middle = one.across(port)
        far = other.across(middle)
        del middle
        gc.collect()
        far.send(b"x")
        assert port.receive(30.0).data == b"x"
        assert not seen
        del far
        gc.collect()
        assert eventually(lambda: len(seen) == 1)


def test_on_the_loop_of_who_asked_for_it() -> None:
    idents: list[int] = []
    with LoopThread() as loop, Pair() as pair, MachPort() as port:
        loop.call(lambda: port.add_no_senders_handler(lambda _: idents.append(get_ident())))
        handle = pair.across(port)
        del handle
        gc.collect()
        assert eventually(lambda: idents == [loop.loop.ident])


def test_on_the_loop_that_was_named() -> None:
    idents: list[int] = []
    with LoopThread() as loop, Pair() as pair, MachPort() as port:
        port.add_no_senders_handler(lambda _: idents.append(get_ident()), loop=loop.loop)
        handle = pair.across(port)
        del handle
        gc.collect()
        assert eventually(lambda: idents == [loop.loop.ident])


def test_a_handler_that_raises_is_reported_and_the_next_is_called(reports: Reports) -> None:
    seen: list[Port] = []
    error = RuntimeError("from a handler")

    def fail(port: Port) -> None:
        raise error

    with LoopThread() as loop, Pair() as pair, MachPort() as port:
        port.add_no_senders_handler(fail, loop=loop.loop)
        port.add_no_senders_handler(seen.append, loop=loop.loop)
        handle = pair.across(port)
        del handle
        gc.collect()
        assert eventually(lambda: seen == [port])
    assert reports.take() == [error]


def test_nothing_for_a_port_that_was_invalidated() -> None:
    seen: list[Port] = []
    with Pair() as pair:
        port = MachPort()
        counted(port, seen)
        handle = pair.across(port)
        port.invalidate()
        assert eventually(lambda: not pair.right.table._imports)
        assert not handle.is_valid
        assert not seen


def test_what_is_no_handler() -> None:
    with MachPort() as port, pytest.raises(TypeError, match="cannot be called"):
        port.add_no_senders_handler(7)  # type: ignore[arg-type]
