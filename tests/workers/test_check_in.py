"""The check-in handshake: what a worker sends, what it is answered, what a group refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from portkit import (
    CheckInError,
    CheckInTimeoutError,
    InvalidPortError,
    MachPort,
    Port,
    PortError,
    PortMessage,
    RunLoop,
    WorkerDiedError,
)
from portkit.workers import CHECK_IN, Session, WorkerGroup
from portkit.workers.check_in import ACCEPTED, REFUSED, Arrival, CheckIn, RefusedError
from tests.ports.helpers import Background
from tests.support import PATIENCE, Reports, run_on_thread
from tests.workers.helpers import Events, beside, echo, idle, run_until

RECORD = CheckIn(index=3, token="secret")


@contextmanager
def session_at(door: Port, check_in_timeout: float | None = PATIENCE) -> Iterator[Session]:
    session = Session(door, RECORD, name="worker-3", over="mach", check_in_timeout=check_in_timeout)
    yield session
    session.close()


def answered(answer: Callable[[PortMessage], object]) -> tuple[PortMessage, object]:
    """A worker's check-in at a door that answers so, and what came of it."""

    def worker() -> object:
        with session_at(door) as session:
            try:
                return session.main
            except PortError as error:
                return error

    with MachPort() as door:
        background = Background(lambda: run_on_thread(worker))
        message = door.receive(PATIENCE)
        answer(message)
        return message, background.result()


def test_a_check_in_is_a_request_with_two_ports_and_a_record() -> None:
    with MachPort() as main_port:
        message, main = answered(lambda message: message.reply(main_port, msgid=ACCEPTED))
        assert main is main_port
    assert message.msgid == CHECK_IN == 100
    assert message.is_request
    assert len(message.ports) == 2
    assert json.loads(message.data or b"") == {
        "version": 1,
        "index": 3,
        "token": "secret",
        "target": "",
    }


def test_a_refused_worker_is_told_the_reason() -> None:
    _, error = answered(lambda message: message.reply(b"too many", msgid=REFUSED))
    assert type(error) is RefusedError
    assert "refused: too many" in str(error)


def test_a_check_in_that_is_dropped_is_a_check_in_error() -> None:
    _, error = answered(lambda message: message.drop())
    assert type(error) is CheckInError


@pytest.mark.own_thread
def test_a_group_that_does_not_answer_is_a_time_out() -> None:
    with (
        MachPort() as door,
        session_at(door, check_in_timeout=0.01) as session,
        pytest.raises(CheckInTimeoutError, match=r"worker-3's check-in within 0\.01 s"),
    ):
        session.check_in()


@pytest.mark.own_thread
def test_a_door_without_room_is_a_time_out() -> None:
    with MachPort(queue_limit=1) as door, session_at(door, check_in_timeout=0.01) as session:
        door.send()
        with pytest.raises(CheckInTimeoutError):
            session.check_in()


@pytest.mark.own_thread
def test_a_group_that_is_gone_is_a_check_in_error() -> None:
    with MachPort() as door, session_at(door) as session:
        door.invalidate()
        with pytest.raises(CheckInError, match="too late"):
            session.check_in()


def test_accepted_worker_has_a_port_of_its_own_at_the_main_side() -> None:
    mains: dict[int, Port] = {}

    def target(session: Session) -> None:
        mains[session.index] = session.main
        session.main.send(session.name.encode())
        echo(session)

    events = Events()
    with WorkerGroup(target, count=3, name="w", on_message=events.message) as group:
        assert [worker.name for worker in group.workers] == ["w-0", "w-1", "w-2"]
        assert all(worker.has_checked_in and worker.is_alive for worker in group.workers)
        for worker in group.workers:
            worker.port.send(b"hello", msgid=7)
        run_until(lambda: len(events.all) == 6)
        assert len({*mains.values()}) == 3
        assert group.workers[1].port.request(b"?").data == b"?"
    for worker in group.workers:
        assert events.of(worker) == [worker.name.encode(), b"hello"]
        assert not worker.is_alive
        assert worker.error is None


def test_run_checks_in_only_if_that_was_not_done() -> None:
    def target(session: Session) -> None:
        session.check_in()
        with pytest.raises(CheckInError, match="already"):
            session.check_in()
        session.run()

    with WorkerGroup(target, count=1):
        pass


def test_a_worker_without_check_in_has_no_port() -> None:
    worker = WorkerGroup(idle, count=1).workers[0]
    assert not worker.has_checked_in
    assert not worker.is_alive
    with pytest.raises(InvalidPortError, match="has not checked in"):
        worker.port.send()


# What the door refuses.

GOOD = {"version": 1, "index": 0, "token": "?"}
REFUSALS: dict[str, tuple[Callable[[Port], Any], str]] = {
    "nothing": (lambda port: (), "two ports"),
    "one port": (lambda port: (port, json.dumps(GOOD).encode()), "two ports"),
    "three ports": (lambda port: (port, port, port, b"{}"), "two ports"),
    "no record": (lambda port: (port, port), "record is wrong: Invalid JSON"),
    "no JSON": (lambda port: (port, port, b"\xff{"), "record is wrong: Invalid JSON"),
    "a list": (lambda port: (port, port, b"[1]"), "record is wrong"),
    "no index": (lambda port: (port, port, b'{"token": ""}'), "starts its workers itself"),
    "a negative index": (
        lambda port: (port, port, b'{"index": -1, "token": ""}'),
        "index: Input should be greater",
    ),
    "a huge token": (
        lambda port: (port, port, json.dumps({**GOOD, "token": "x" * 65}).encode()),
        "token: String should have at most",
    ),
    "another version": (
        lambda port: (port, port, json.dumps({**GOOD, "version": 2}).encode()),
        "version 2, the group speaks 1",
    ),
    "an unknown index": (
        lambda port: (port, port, json.dumps({**GOOD, "index": 10**30}).encode()),
        "does not expect a worker",
    ),
    "a wrong token": (
        lambda port: (port, port, json.dumps(GOOD).encode()),
        "does not expect a worker 0 with that token",
    ),
}


def knock(group: WorkerGroup, components: Any, msgid: int = CHECK_IN) -> PortMessage:
    assert group._door is not None
    door = group._door.port
    return beside(lambda: door.request(components, msgid=msgid, reply_timeout=PATIENCE))


def assert_alive(group: WorkerGroup) -> None:
    for worker in group.workers:
        assert worker.port.request(b"alive?", reply_timeout=PATIENCE).data == b"alive?"


@pytest.mark.parametrize(("components", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refused_with_a_reason(
    components: Callable[[Port], Any], reason: str, reports: Reports
) -> None:
    with WorkerGroup(echo, count=1) as group, MachPort() as port:
        answer = knock(group, components(port))
        assert answer.msgid == REFUSED
        assert reason in (answer.data or b"").decode()
        assert_alive(group)
    (error,) = reports.take()
    assert isinstance(error, CheckInError)


def test_another_message_at_the_door_is_refused(reports: Reports) -> None:
    with WorkerGroup(echo, count=1) as group:
        answer = knock(group, b"hello", msgid=1)
        assert answer.msgid == REFUSED
        assert "only takes check-ins" in (answer.data or b"").decode()
        assert_alive(group)
    assert len(reports.take()) == 1


def forged(group: WorkerGroup, index: int) -> tuple[MachPort, bytes]:
    record = CheckIn(index=index, token=group.workers[index].token)
    return MachPort(), record.model_dump_json().encode()


def test_a_second_check_in_is_refused(reports: Reports) -> None:
    """Also one that knows the token: the worker's port is not replaced."""
    with WorkerGroup(echo, count=2) as group:
        before = group.workers[1].port
        port, record = forged(group, 1)
        answer = knock(group, (port, port, record))
        assert answer.msgid == REFUSED
        assert answer.data == b"worker-1 has checked in already"
        assert group.workers[1].port is before
        assert_alive(group)
    assert len(reports.take()) == 1


def test_a_one_way_check_in_is_refused(reports: Reports) -> None:
    """It could not be given its main port; and an answer to an ordinary port could block."""

    def target(session: Session) -> None:
        if session.index == 1:
            record = session._record.model_dump_json().encode()
            with MachPort(queue_limit=1) as full:
                full.send()
                for reply_port in (None, full):
                    session._door.send(
                        (session.port, session._control, record),
                        msgid=CHECK_IN,
                        reply_port=reply_port,
                    )
        echo(session)

    with WorkerGroup(target, count=2, check_in_timeout=PATIENCE) as group:
        assert_alive(group)
    assert len(reports.take()) == 2


# Time-outs.


@pytest.mark.parametrize("timeout", [0.05, 0, -1])
def test_check_in_timeout_names_who_is_missing(timeout: float) -> None:
    release = Event()

    def target(session: Session) -> None:
        if timeout < 0.01 or session.index in {1, 3}:
            assert release.wait(PATIENCE)
            return
        session.run()

    group = WorkerGroup(target, count=4, check_in_timeout=timeout)
    loop = RunLoop.current()
    loop.perform(release.set, modes="portkit.workers.stop")  # so they end when they are stopped
    with pytest.raises(CheckInTimeoutError) as caught:
        group.start()
    missing = ["worker-1", "worker-3"] if timeout == 0.05 else [w.name for w in group.workers]
    assert f"{', '.join(missing)} did not check in within {timeout} s" in str(caught.value)
    assert f"({len(missing)} of 4 are missing)" in str(caught.value)
    assert isinstance(caught.value, TimeoutError)


def test_a_worker_that_hangs_in_a_failed_start_is_reported(reports: Reports) -> None:
    release = Event()
    outcome: list[BaseException] = []

    def target(session: Session) -> None:
        assert release.wait(PATIENCE)
        try:
            session.check_in()
        except CheckInError as error:
            outcome.append(error)

    group = WorkerGroup(target, count=1, check_in_timeout=0.01)
    with pytest.raises(CheckInTimeoutError):
        group.start()
    (error,) = reports.take()
    assert "worker-0 did not stop within" in str(error)
    # When it comes back, the door is closed.
    release.set()
    group.stop(PATIENCE)
    assert "worker-0 checks in too late" in str(outcome[0])


def test_a_check_in_during_the_stop_is_refused() -> None:
    """The group waits for its workers to end, and does not leave the late one waiting."""
    release = Event()
    outcome: list[BaseException] = []

    def target(session: Session) -> None:
        if session.index == 1:
            assert release.wait(PATIENCE)
            try:
                session.check_in()
            except CheckInError as error:
                outcome.append(error)
        session.run()

    group = WorkerGroup(target, count=2, check_in_timeout=0.05)
    RunLoop.current().perform(release.set, modes="portkit.workers.stop")
    with pytest.raises(CheckInTimeoutError, match="worker-1 did not"):
        group.start()
    assert "refused: worker-1 checks in too late: the group is stopping" in str(outcome[0])


def test_a_check_in_of_a_worker_that_has_ended_is_refused(reports: Reports) -> None:
    """Its end may be seen before its check-in is: it must not count as having started."""
    ended = Event()

    def target(session: Session) -> None:
        record = session._record.model_dump_json().encode()
        asker = Background(
            lambda: session._door.request(
                (session.port, session._control, record), msgid=CHECK_IN, reply_timeout=PATIENCE
            )
        )
        answers.append(asker)
        door_is_knocked.wait(PATIENCE)
        raise ValueError("gone")

    answers: list[Background] = []
    door_is_knocked = Event()
    group = WorkerGroup(target, count=1)
    admit = group._admit

    def hold(arrival: Arrival, message: PortMessage) -> None:
        # The loop looks at the door only when the worker's end is queued too.
        door_is_knocked.set()
        assert ended.wait(PATIENCE)
        group._ends.see_to()
        admit(arrival, message)

    worker_ended = group._worker_ended

    def note_end(*args: Any) -> None:
        worker_ended(*args)
        ended.set()

    group._admit = hold  # type: ignore[method-assign]
    group._worker_ended = note_end  # type: ignore[method-assign, assignment]
    with pytest.raises(WorkerDiedError, match="ValueError: gone"):
        group.start()
    answer = answers[0].result()
    assert answer.msgid == REFUSED
    assert b"has ended" in answer.data
    reports.take()


def test_no_time_out_waits_for_all() -> None:
    with WorkerGroup(idle, count=2, check_in_timeout=None) as group:
        assert all(worker.is_alive for worker in group.workers)
