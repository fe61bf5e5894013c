"""Messages between a group and its workers: answers, broadcasts, both sides' errors."""

from __future__ import annotations

import os
from threading import Event
from typing import Any

import pytest

from portkit import (
    COMMON_MODES,
    PortError,
    PortMessage,
    ReplyDroppedError,
    SendTimeoutError,
    TransportError,
)
from portkit.workers import Session, Worker, WorkerGroup
from tests.ports.helpers import Recorder
from tests.support import PATIENCE, Reports
from tests.workers.helpers import Events, beside, idle, run_until


class Asking:
    """A target that sends its main side one request, and keeps what came of it."""

    def __init__(self) -> None:
        self.outcome: Any = None

    def __call__(self, session: Session) -> None:
        try:
            self.outcome = session.main.request(b"?", reply_timeout=PATIENCE).data
        except PortError as error:
            self.outcome = error
        session.main.send(b"done")
        session.run()


@pytest.mark.parametrize(
    ("answer", "arrives"), [(b"yes", b"yes"), ((b"a", b"b"), b"a"), (None, b"")]
)
def test_on_message_answers_a_request(answer: Any, arrives: bytes) -> None:
    asking = Asking()
    seen: list[bytes | None] = []

    def on_message(worker: Worker, message: PortMessage) -> Any:
        seen.append(message.data)
        return answer

    with WorkerGroup(asking, count=1, on_message=on_message):
        run_until(lambda: b"done" in seen)
    assert asking.outcome == arrives


def test_an_answer_may_be_deferred() -> None:
    asking = Asking()
    kept: list[PortMessage] = []

    def on_message(worker: Worker, message: PortMessage) -> None:
        if message.is_request:
            message.defer()
        kept.append(message)

    with WorkerGroup(asking, count=1, on_message=on_message):
        run_until(lambda: kept)
        kept[0].reply(b"later")
        run_until(lambda: len(kept) == 2)
    assert asking.outcome == b"later"


def raising(worker: Worker, message: PortMessage) -> None:
    if message.is_request:
        raise LookupError("handler")


def answering_nonsense(worker: Worker, message: PortMessage) -> Any:
    return "text" if message.is_request else None


@pytest.mark.parametrize(
    ("on_message", "reported"),
    [(None, PortError), (raising, LookupError), (answering_nonsense, TypeError)],
    ids=["absent", "raises", "answers nonsense"],
)
def test_a_request_that_gets_no_answer_is_dropped_at_once(
    on_message: Any, reported: type[Exception], reports: Reports
) -> None:
    asking = Asking()
    answered = Event()
    group = WorkerGroup(asking, count=1, on_message=on_message)
    with group:
        run_until(lambda: asking.outcome is not None or not group.workers[0].is_alive)
        assert group.workers[0].is_alive
        answered.set()
    assert isinstance(asking.outcome, ReplyDroppedError)
    errors = reports.take()
    assert isinstance(errors[0], reported)
    if on_message is None:
        assert "a message from worker-0 was dropped: the group has no on_message" in str(errors[0])


def test_on_message_may_be_set_later() -> None:
    events = Events()
    release = Event()

    def target(session: Session) -> None:
        session.check_in()
        assert release.wait(PATIENCE)
        session.main.send(b"x")
        session.run()

    with WorkerGroup(target, count=1) as group:
        group.on_message = events.message
        release.set()
        run_until(lambda: events.all)


def test_workers_may_know_each_other() -> None:
    """Ports travel in messages: two workers talk past the main side."""
    events = Events()

    def target(session: Session) -> None:
        def delegate(message: PortMessage) -> None:
            if message.ports:
                message.ports[0].send(b"from " + session.name.encode())
            else:
                session.main.send(message.components)

        session.port.delegate = delegate
        session.run()

    with WorkerGroup(target, count=2, on_message=events.message) as group:
        first, second = group.workers
        first.port.send(second.port)
        run_until(lambda: events.all)
    assert events.all == [("worker-1", b"from worker-0")]


# Broadcasts.


class Delegates:
    """A target whose workers each have a delegate that keeps what it gets."""

    def __init__(self, count: int) -> None:
        self.recorders = [Recorder() for _ in range(count)]

    def __call__(self, session: Session) -> None:
        session.port.delegate = self.recorders[session.index]
        session.run()


def test_broadcast_reaches_every_worker() -> None:
    target = Delegates(3)
    with WorkerGroup(target, count=3) as group:
        assert group.broadcast((b"a", b"b"), msgid=9) == list(group.workers)
    for recorder in target.recorders:
        (message,) = recorder.messages
        assert message.msgid == 9
        assert message.components == (b"a", b"b")


def test_broadcast_from_another_thread() -> None:
    target = Delegates(2)
    with WorkerGroup(target, count=2) as group:
        assert beside(lambda: group.broadcast(b"x")) == list(group.workers)
    assert [recorder.data for recorder in target.recorders] == [[b"x"], [b"x"]]


def test_broadcast_passes_over_the_dead() -> None:
    target = Delegates(3)

    def mortal(session: Session) -> None:
        session.check_in()
        if session.index == 1:
            raise ValueError("broken")
        target(session)

    events = Events()
    with WorkerGroup(mortal, count=3, on_worker_lost=events.worker_lost) as group:
        run_until(lambda: events.lost)
        assert group.broadcast(b"x") == [group.workers[0], group.workers[2]]


def test_broadcast_passes_over_one_that_is_just_ending() -> None:
    """Its port is gone, and the news of its end still on the way."""
    gone = Event()

    def target(session: Session) -> None:
        session.check_in()
        if session.index == 0:
            session.close()
            gone.set()
        session.port.delegate = Recorder()
        session.run()

    with WorkerGroup(target, count=2) as group:
        assert gone.wait(PATIENCE)
        assert group.broadcast(b"x") == [group.workers[1]]


@pytest.mark.parametrize("timeout", [0, -1, 0.05])
def test_broadcast_to_a_full_queue_names_the_worker(timeout: float) -> None:
    release = Event()
    target = Delegates(3)

    def busy(session: Session) -> None:
        session.check_in()
        if session.index == 1:
            assert release.wait(PATIENCE)
        target(session)

    with WorkerGroup(busy, count=3) as group:
        full = group.workers[1].port
        full.send_many([b"fill"] * full.queue_limit)
        with pytest.raises(SendTimeoutError) as caught:
            group.broadcast(b"x", timeout=timeout)
        assert "worker-1 had no room for the message; 2 others got it" in str(caught.value)
        assert caught.value.accepted == 2
        release.set()
    assert [len(recorder.data) for recorder in target.recorders] == [1, full.queue_limit, 1]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("text",), TypeError),
        (((b"a", 1),), TypeError),
    ],
)
def test_broadcast_of_what_is_no_message_sends_nothing(arguments: Any, error: Any) -> None:
    target = Delegates(2)
    with WorkerGroup(target, count=2) as group:
        with pytest.raises(error):
            group.broadcast(*arguments)
        with pytest.raises(ValueError, match="msgid"):
            group.broadcast(msgid=-1)
        with pytest.raises(TypeError):
            group.broadcast(timeout="1")  # type: ignore[arg-type]
    assert [recorder.data for recorder in target.recorders] == [[], []]


def test_broadcast_without_workers_reaches_nobody() -> None:
    group = WorkerGroup(idle, count=2)
    assert group.broadcast(b"x") == []
    with group:
        pass
    assert group.broadcast(b"x") == []


# Targets that run no loop of ``run``.


def test_a_target_that_receives_instead_of_running_a_loop() -> None:
    """Its port has one consumer: taken off the loop, it is the target's to receive from."""
    events = Events()

    def target(session: Session) -> None:
        with pytest.raises(PortError, match="served by the run loop of thread 'worker-0'"):
            session.port.receive(0)
        session.loop.remove_port(session.port, COMMON_MODES)
        session.check_in()
        while (message := session.port.receive(PATIENCE)).data != b"end":
            session.main.send(message.components)

    with WorkerGroup(
        target, count=1, on_message=events.message, on_worker_lost=events.worker_lost
    ) as group:
        group.broadcast(b"1")
        group.broadcast(b"2")
        run_until(lambda: len(events.all) == 2)
        group.broadcast(b"end")
        run_until(lambda: events.lost)
        assert events.of(group.workers[0]) == [b"1", b"2", None]
        assert group.workers[0].error is None


def test_a_target_that_receives_and_then_runs_ends_with_messages_unread() -> None:
    """The loop must not turn round for messages that it does not deliver."""

    def target(session: Session) -> None:
        session.loop.remove_port(session.port, COMMON_MODES)
        session.run()
        left.append(session.port.pending)

    left: list[int] = []
    with WorkerGroup(target, count=1) as group:
        group.broadcast(b"unread")
    assert left == [1]


def test_a_target_that_runs_its_loop_by_itself() -> None:
    """As in Apple's guide: ``while not done: run_mode(...)``."""
    events = Events()

    def target(session: Session) -> None:
        done: list[bytes | None] = []

        def delegate(message: PortMessage) -> None:
            done.append(message.data)

        session.port.delegate = delegate
        session.check_in()
        while b"end" not in done:
            session.loop.run_mode("default", PATIENCE)
        session.main.send([data or b"" for data in done])

    with WorkerGroup(
        target, count=1, on_message=events.message, on_worker_lost=events.worker_lost
    ) as group:
        group.broadcast(b"1")
        group.broadcast(b"end")
        run_until(lambda: events.lost)
        assert events.of(group.workers[0]) == [b"1", None]


# What a group is made with.


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"target": 1}, TypeError),
        ({"target": None}, TypeError),
        ({"target": "module"}, ValueError),
        ({"target": ":function"}, ValueError),
        ({"target": "module:"}, ValueError),
        ({"target": b"module:function"}, TypeError),
        ({"count": 0}, ValueError),
        ({"count": -1}, ValueError),
        ({"count": True}, TypeError),
        ({"count": 1.0}, TypeError),
        ({"count": "2"}, TypeError),
        ({"over": "mash"}, TransportError),
        ({"over": ""}, TransportError),
        ({"over": "mach:"}, TransportError),
        ({"check_in_timeout": "5"}, TypeError),
        ({"check_in_timeout": True}, TypeError),
        ({"check_in_timeout": float("nan")}, ValueError),
        ({"on_message": 1}, TypeError),
        ({"on_worker_lost": "print"}, TypeError),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        WorkerGroup(**{"target": idle, **arguments})


def test_count_is_by_default_one_for_each_processor() -> None:
    assert len(WorkerGroup(idle).workers) == (os.cpu_count() or 1)


def test_an_unknown_transport_is_told_what_there_is() -> None:
    with pytest.raises(TransportError, match="did you mean 'mach'"):
        WorkerGroup(idle, over="mash")


def test_a_group_is_started_once() -> None:
    group = WorkerGroup(idle, count=1)
    with group, pytest.raises(PortError, match="started once"):
        group.start()
    with pytest.raises(PortError, match="started once"):
        group.start()
