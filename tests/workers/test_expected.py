"""Groups whose workers others start: by hand, by the test here, on other hosts in earnest."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from portkit import (
    CheckInTimeoutError,
    InvalidPortError,
    MachPort,
    NameInUseError,
    PortError,
    PortMessage,
    ReceiveTimeoutError,
    Restart,
    RunLoop,
    TransportError,
    _thread,
    connect_port,
)
from portkit._answer import Answer
from portkit.port import ReplyPort
from portkit.workers import CHECK_IN, Session, Worker, WorkerGroup
from portkit.workers.check_in import ACCEPTED, REFUSED
from tests.support import PATIENCE, Reports, eventually
from tests.workers.expected import OBEY, WAYS, Starter, Way, ask, certs, start, way_by
from tests.workers.helpers import Events, beside, run_until

__all__ = ["certs", "start"]

pytestmark = [pytest.mark.own_thread, pytest.mark.usefixtures("folder")]


MESSAGE = pytest.mark.parametrize("way", ["message"], indirect=True)
TLS = pytest.mark.parametrize("way", ["tls"], indirect=True)


@pytest.fixture(params=["message", "tls"])
def way(request: pytest.FixtureRequest, certs: Path) -> Way:
    """How workers come: as name in the user's own folder, or over TCP."""
    return way_by(request.param, certs)


@pytest.fixture
def caught(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged as a warning."""
    caplog.set_level(logging.WARNING, "portkit")
    return lambda: [record.getMessage() for record in caplog.records]


def once(way: Way, group: WorkerGroup) -> tuple[str, ...]:
    """Arguments of a worker that joins once."""
    return str(group.door), *way.arguments, "--no-retry"


@pytest.mark.parametrize("name", WAYS)
def test_those_who_come_get_the_places_in_turn(start: Starter, certs: Path, name: str) -> None:
    events = Events()
    way = way_by(name, certs)
    group = way.group(3, name="guest", on_message=events.message)
    commands = [start(*once(way, group)) for _ in range(3)]
    with group:
        assert [one.name for one in group.workers] == ["guest-0", "guest-1", "guest-2"]
        pids = []
        for one in group.workers:
            known = json.loads(ask(one, b"know"))
            assert (known["name"], known["index"]) == (one.name, one.index)
            pids.append(known["pid"])
            assert one.sender is not None
            if name == "message":
                assert (one.sender.uid, one.sender.pid) == (os.getuid(), one.pid)
            else:
                assert (one.sender.host, one.pid) == ("127.0.0.1", None)
                assert ("guest" in one.sender.names) == (name == "tls")
                assert one.sender.key_id == ("office" if name == "key" else "")
        assert set(pids) == {command.process.pid for command in commands}
        group.broadcast(b"ask hello")
        run_until(lambda: len(events.all) == 6)
    assert [command.ended() for command in commands] == [(0, [])] * 3
    assert not any(one.is_alive or one.error for one in group.workers)


def test_one_too_many_is_refused(start: Starter, way: Way, caught: Callable[[], list[str]]) -> None:
    group = way.group()
    start(*once(way, group))
    with group:
        late = start(str(group.door), *way.arguments, "--retry")
        told = "all places of this group are taken: it has 1"
        assert beside(late.ended) == (1, [f"the check-in was refused: {told}"])
        assert ask(group.workers[0], b"echo x") == b"x"
    (warning,) = caught()
    who = "process" if way.over == "message" else r"127.0.0.1 (guest)"
    assert warning.startswith(f"a check-in of {who}")
    assert warning.endswith(f"was refused: {told}")


def test_workers_that_run_something_else_are_refused(
    start: Starter, certs: Path, caught: Callable[[], list[str]]
) -> None:
    way = way_by("key", certs)
    group = way.group(target=OBEY)
    wrong = start(*once(way, group), target="tests.workers.targets:receive_all")
    right = start(*once(way, group))
    told = (
        "the workers of this group run 'tests.workers.targets:obey', not "
        "'tests.workers.targets:receive_all'"
    )
    with group:
        assert beside(wrong.ended) == (1, [f"the check-in was refused: {told}"])
    assert right.ended() == (0, [])
    assert len(caught()) == 1


def test_ports_of_the_group_are_no_workers(
    start: Starter, way: Way, caught: Callable[[], list[str]]
) -> None:
    """What is sent to the worker would come back to this process."""
    group = way.group()
    target = "tests.workers.targets:bring_what_is_not_its_own"
    wrong = start(*once(way, group), target=target)
    run_until(caught)
    told = "a worker brings ports of its own, and none of this process"
    assert beside(wrong.ended) == (0, [told])
    group.stop()


@MESSAGE
def test_not_all_came_in_time(start: Starter, way: Way) -> None:
    group = way.group(2, check_in_timeout=2.0)
    command = start(*once(way, group))
    with pytest.raises(CheckInTimeoutError, match=r"did not check in within 2.0 s .[12] of 2"):
        group.start()
    assert command.ended()[0] in {0, 1}  # told to end, or it came too late


@pytest.mark.parametrize(
    ("way", "how"),
    [
        *(("message", "killed"), ("message", "left"), ("message", "interrupted")),
        *(("tls", "killed"), ("tls", "raised"), ("tls", "unreachable")),
    ],
    indirect=["way"],
)
def test_a_lost_worker_is_told_and_its_place_is_free_again(
    start: Starter, way: Way, how: str
) -> None:
    events = Events()
    back: list[Worker] = []
    group = way.group(
        2, on_message=events.message, on_worker_lost=events.worker_lost,
        on_worker_restarted=back.append,
    )  # fmt: skip
    commands = [start(*once(way, group)) for _ in range(2)]
    with group:
        first = group.workers[0]
        pid = json.loads(ask(first, b"know"))["pid"]  # so it knows its place
        process = next(one.process for one in commands if one.process.pid == pid)
        if how == "killed":
            process.kill()
        elif how == "interrupted":
            process.send_signal(signal.SIGINT)
        elif how == "unreachable":
            first.port.invalidate()
        else:
            first.port.send(b"raise it" if how == "raised" else b"leave")
        run_until(lambda: events.lost)
        assert events.lost == [first]
        assert not first.is_alive
        assert first.is_restarting
        with pytest.raises(InvalidPortError):
            first.port.send()
        if how == "left":
            assert first.error is None
        else:
            assert str(first.error).startswith("worker-0 died after its check-in:")
            reason = {
                "killed": "the peer ended without the goodbye of TLS"
                if way.over == "socket"
                else "its connection ended: the peer has ended",
                "raised": "SystemExit: told to: it",
                "interrupted": "it was interrupted",
                "unreachable": "its port was invalidated",
            }[how]
            assert str(first.error).endswith(reason)
        if how == "raised":
            assert events.all == [(first.name, b"last"), (first.name, None)]
        assert group.broadcast(b"echo x") == [group.workers[1]]
        assert repr(group) == f"<WorkerGroup over {way.over}: 1 of 2 workers alive>"
        other = start(*once(way, group))
        run_until(lambda: back)
        assert back == [first]
        assert (first.restarts, first.error, first.is_restarting) == (1, None, False)
        assert json.loads(ask(first, b"know"))["pid"] == other.process.pid
    assert other.ended() == (0, [])


@TLS
def test_a_worker_that_is_lost_while_others_are_waited_for(start: Starter, way: Way) -> None:
    events = Events()
    group = way.group(2, on_worker_lost=events.worker_lost)
    first = start(*once(way, group))

    def go_on() -> None:
        assert eventually(lambda: group.workers[0].has_checked_in)
        first.process.kill()
        assert eventually(lambda: events.lost)
        start(*once(way, group))
        start(*once(way, group))

    thread = Thread(target=go_on)
    thread.start()
    with group:
        assert [one.restarts for one in group.workers] == [1, 0]
        assert all(one.is_alive for one in group.workers)
    thread.join()


@MESSAGE
def test_without_a_callback_the_loss_is_reported(
    start: Starter, way: Way, reports: Reports
) -> None:
    group = way.group()
    command = start(*once(way, group))
    with group:
        command.process.kill()
        run_until(lambda: group.workers[0].error)
    assert reports.take() == [group.workers[0].error]


# Knocking by hand: what a worker process would not do.


def message_group(count: int = 1, **options: Any) -> WorkerGroup:
    return Way("message", {}, ()).group(count, **options)


class Guest:
    """A worker of this process, without a session."""

    def __init__(self) -> None:
        self.port, self.control, self.loop = MachPort(), MachPort(), RunLoop.current()

    def knock(self, group: WorkerGroup, **record: Any) -> PortMessage:
        door = connect_port(str(group.door))
        return beside(
            lambda: door.request(
                (self.port, self.control, json.dumps({"version": 1, **record}).encode()),
                msgid=CHECK_IN,
                reply_timeout=PATIENCE,
            )
        )

    def close(self) -> None:
        self.port.invalidate()
        self.control.invalidate()


@pytest.fixture
def guests() -> Iterator[Callable[[], Guest]]:
    made: list[Guest] = []

    def make() -> Guest:
        made.append(Guest())
        return made[-1]

    yield make
    for guest in made:
        guest.close()


@contextmanager
def started(group: WorkerGroup) -> Iterator[WorkerGroup]:
    """A group that waits for nobody, and whose workers' ends are told to somebody."""
    group.on_worker_lost = group.on_worker_lost or (lambda _: None)
    try:
        yield group
    finally:
        for one in group.workers:
            if one._port is not None:
                one._port.invalidate()
        try:
            group.stop(timeout=1.0)
        except ReceiveTimeoutError:
            raise AssertionError("a guest's end was not noticed") from None


def test_a_worker_that_comes_back_takes_its_place_from_its_dead_connection(guests: Any) -> None:
    events = Events()
    with started(message_group(2, on_worker_lost=events.worker_lost)) as group:
        first, second = guests(), guests()
        place = json.loads(first.knock(group).data or b"")
        assert (place["index"], place["name"]) == (0, "worker-0")
        assert second.knock(group).msgid == ACCEPTED
        again = guests()
        answer = again.knock(group, token=place["token"])
        assert answer.msgid == ACCEPTED
        renewed = json.loads(answer.data or b"")
        assert renewed["index"] == 0
        assert renewed["token"] != place["token"]
        assert events.lost == [group.workers[0]]
        assert group.workers[0].restarts == 1
        assert group.workers[0].is_alive


def test_a_place_that_was_given_away_is_not_given_back(guests: Any) -> None:
    with started(message_group(1, on_worker_lost=lambda _: None)) as group:
        first, other, again = guests(), guests(), guests()
        place = json.loads(first.knock(group).data or b"")
        first.close()
        run_until(lambda: group.workers[0].is_restarting)
        assert other.knock(group).msgid == ACCEPTED
        refusal = again.knock(group, token=place["token"])
        assert refusal.msgid == REFUSED
        assert b"all places of this group are taken" in (refusal.data or b"")


def test_a_worker_that_is_back_before_its_last_message_is_handled(guests: Any) -> None:
    """Its handler runs the loop, which gives the place away; that of the next is not harmed."""
    events = Events()
    second = guests()
    answers: list[PortMessage] = []

    def on_message(worker: Worker, message: PortMessage) -> None:
        events.message(worker, message)
        if message.data == b"last":
            answers.append(second.knock(group))

    group = message_group(on_message=on_message, on_worker_lost=events.worker_lost)
    with started(group):
        first = guests()
        (main, _) = first.knock(group).ports
        main.send(b"last")
        first.close()
        assert eventually(lambda: group._ends._waiting)  # its end is known before the loop runs
        run_until(lambda: answers)
        assert group.workers[0].restarts == 1
        assert group.workers[0].is_alive
        (main, _) = answers[0].ports
        beside(lambda: main.send(b"of the next"))
        run_until(lambda: len(events.all) == 3)
    assert [data for _, data in events.all[:3]] == [b"last", None, b"of the next"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"index": 0}, b"gives each worker its number"),
        ({"index": 0, "token": "x"}, b"gives each worker its number"),
        ({"token": "x" * 65}, b"token: String should have at most"),
        ({"target": "x" * 1025}, b"target: String should have at most"),
    ],
)
def test_what_the_door_refuses(guests: Any, record: dict[str, Any], reason: bytes) -> None:
    with started(message_group()) as group:
        refusal = guests().knock(group, **record)
        assert refusal.msgid == REFUSED
        assert reason in (refusal.data or b"")


def test_a_right_to_answer_is_no_worker(guests: Any) -> None:
    """Its end is told to nobody: it would have the place for ever."""
    with started(message_group()) as group:
        wrong = guests()
        wrong.control.invalidate()
        wrong.control = ReplyPort(Answer(_thread.current().waiter))
        refusal = wrong.knock(group)
        assert (refusal.msgid, refusal.data) == (
            REFUSED,
            b"a check-in brings ports, and no rights to answer",
        )
        assert not group.workers[0].has_checked_in
        assert guests().knock(group).msgid == ACCEPTED


def test_a_token_of_any_letters_is_just_unknown(guests: Any) -> None:
    with started(message_group()) as group:
        assert guests().knock(group, token="é").msgid == ACCEPTED


# Arguments.


def idle(session: Session) -> None:
    session.run()


def test_what_cannot_be() -> None:
    with pytest.raises(TypeError, match="only with over='message' or 'socket' can target be None"):
        WorkerGroup(None)
    with pytest.raises(TypeError, match="name what they run, as 'module:function', or write None"):
        WorkerGroup(idle, over="socket")
    with pytest.raises(ValueError, match="write 'module:function'"):
        WorkerGroup("nothing", over="socket")
    with pytest.raises(TypeError, match="address: options of the door are for workers that others"):
        WorkerGroup(idle, address="mach:x")
    with pytest.raises(TypeError, match="tls: options of the door"):
        WorkerGroup(OBEY, over="message", tls=None)
    with pytest.raises(TypeError, match="others just come back"):
        WorkerGroup(None, over="message", restart=Restart())
    with pytest.raises(ValueError, match="no address for a group over 'message'"):
        WorkerGroup(None, over="message", address="mach:x")
    with pytest.raises(ValueError, match=r"\(host, port\)"):
        WorkerGroup(None, over="message", address=("a", 1, 2))  # type: ignore[arg-type]
    with pytest.raises(TransportError, match="did you mean 'message'"):
        WorkerGroup(None, over="massage")


def test_the_door_has_the_name_that_it_was_given() -> None:
    group = WorkerGroup(None, over="message", address="message:jobs", count=1)
    assert group.door is None
    assert str(group.open()) == "message:jobs"
    with pytest.raises(PortError, match="opened and started once"):
        group.open()
    group.stop()


def test_a_door_that_cannot_be_opened() -> None:
    taken = WorkerGroup(None, over="message", address="message:jobs", count=1)
    taken.open()
    group = WorkerGroup(None, over="message", address="message:jobs", count=1)
    with pytest.raises(NameInUseError), group:
        pass
    taken.stop()
