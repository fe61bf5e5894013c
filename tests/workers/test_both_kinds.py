"""What holds for workers of every kind: threads, processes, and those that others start."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from portkit import InvalidPortError, PortMessage, ReplyDroppedError
from portkit.workers import Worker, WorkerGroup
from tests.support import PATIENCE, Reports
from tests.workers.expected import OBEY, Starter, start
from tests.workers.helpers import Events, run_until

__all__ = ["start"]

pytestmark = [
    pytest.mark.own_thread,
    pytest.mark.usefixtures("folder"),
    pytest.mark.parametrize("over", ["mach", "message", "socket"]),
]


class Commands(Starter):
    """Of the test that runs."""

    current: ClassVar[Starter]


@pytest.fixture(autouse=True)
def _commands(start: Starter) -> None:
    Commands.current = start


def group_of(over: str, count: int = 1, **options: Any) -> WorkerGroup:
    options.setdefault("check_in_timeout", PATIENCE)
    group = WorkerGroup(OBEY, count=count, over=over, **options)
    if over == "socket":
        door = str(group.open())
        for _ in range(count):
            Commands.current(door, "--no-retry")
    return group


def test_messages_arrive_in_their_order(over: str) -> None:
    events = Events()
    with group_of(over, 2, on_message=events.message) as group:
        for number in range(200):
            assert group.broadcast(f"ask {number}".encode()) == list(group.workers)
        run_until(lambda: len(events.all) == 800)
    for worker in group.workers:
        expected = [x for n in range(200) for x in (str(n).encode(), b"outcome: ")]
        assert events.of(worker) == expected


@pytest.mark.parametrize("answer", [b"yes", b"", b"x" * 1_000_000], ids=["short", "none", "long"])
def test_a_workers_request_is_answered(over: str, answer: bytes) -> None:
    events = Events(answer)
    with group_of(over, on_message=events.message) as group:
        group.broadcast(b"ask ?")
        run_until(lambda: len(events.all) == 2)
    assert events.of(group.workers[0]) == [b"?", b"outcome: " + answer]


def test_a_workers_request_may_be_answered_later(over: str) -> None:
    kept: list[PortMessage] = []

    def on_message(worker: Worker, message: PortMessage) -> None:
        if message.is_request:
            message.defer()
        kept.append(message)

    with group_of(over, on_message=on_message) as group:
        group.broadcast(b"ask ?")
        run_until(lambda: kept)
        kept[0].reply(b"later")
        run_until(lambda: len(kept) == 2)
        assert kept[1].data == b"outcome: later"
        kept.clear()


def test_a_handler_that_raises_drops_the_request(over: str, reports: Reports) -> None:
    events = Events()

    def on_message(worker: Worker, message: PortMessage) -> None:
        if message.is_request:
            raise LookupError("handler")
        events.message(worker, message)

    with group_of(over, on_message=on_message) as group:
        group.broadcast(b"ask ?")
        run_until(lambda: events.all)
    assert events.of(group.workers[0]) == [b"outcome: ReplyDroppedError"]
    assert [type(error) for error in reports.take()] == [LookupError]


def test_a_worker_whose_delegate_raises_goes_on(over: str, reports: Reports) -> None:
    with group_of(over) as group:
        port = group.workers[0].port
        with pytest.raises(ReplyDroppedError):
            port.request(b"no such command", reply_timeout=PATIENCE)
        assert port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"
    if over == "mach":
        assert [type(error) for error in reports.take()] == [KeyError]


def test_a_worker_that_returns_is_lost_without_an_error(over: str) -> None:
    events = Events()
    with group_of(over, 2, on_worker_lost=events.worker_lost) as group:
        first, second = group.workers
        first.port.send(b"leave")
        run_until(lambda: events.lost)
        assert events.lost == [first]
        assert first.error is None
        with pytest.raises(InvalidPortError):
            first.port.send(b"echo x")
        assert group.broadcast(b"echo x") == [second]


def test_a_worker_that_leaves_with_requests_unread(over: str) -> None:
    with group_of(over) as group:
        port = group.workers[0].port
        port.send(b"leave")
        for _ in range(1000):
            try:
                port.request(b"echo x", reply_timeout=PATIENCE)
            except InvalidPortError:
                return
        pytest.fail("it did not leave")


def test_two_groups_on_one_loop(over: str) -> None:
    events = [Events(), Events()]
    with (
        group_of(over, 2, name="a", on_message=events[0].message) as first,
        group_of(over, 2, name="b", on_message=events[1].message) as second,
    ):
        first.broadcast(b"ask 1")
        second.broadcast(b"ask 2")
        run_until(lambda: all(len(each.all) == 4 for each in events))
        first.stop()
        assert not any(worker.is_alive for worker in first.workers)
        assert second.workers[1].port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"


def test_a_group_started_by_a_callback_of_another(over: str) -> None:
    started: list[WorkerGroup] = []

    def on_message(worker: Worker, message: PortMessage) -> None:
        if message.is_request:
            started.append(group_of(over, 2, name="inner").start())

    with group_of(over, on_message=on_message) as group:
        group.broadcast(b"ask ?")
        run_until(lambda: started)
        port = started[0].workers[1].port
        assert port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"
        started[0].stop()


def test_stop_inside_a_callback(over: str) -> None:
    events = Events()

    def on_message(worker: Worker, message: PortMessage) -> None:
        events.message(worker, message)
        if message.data == b"outcome: ":
            group.stop()

    group = group_of(over, 2, on_message=on_message)
    with group:
        group.workers[0].port.send(b"ask ?")
        run_until(lambda: not any(worker.is_alive for worker in group.workers))
    assert events.of(group.workers[0]) == [b"?", b"outcome: "]


def test_stop_inside_on_worker_lost(over: str) -> None:
    lost: list[Worker] = []

    def on_worker_lost(worker: Worker) -> None:
        lost.append(worker)
        group.stop()

    group = group_of(over, 3, on_worker_lost=on_worker_lost)
    with group:
        group.workers[1].port.send(b"leave")
        run_until(lambda: lost)
        assert not any(worker.is_alive for worker in group.workers)
    assert lost == [group.workers[1]]


def test_an_error_inside_the_block_comes_out(over: str) -> None:
    with pytest.raises(LookupError, match="mine"), group_of(over, 2) as group:
        raise LookupError("mine")
    assert not any(worker.is_alive for worker in group.workers)
