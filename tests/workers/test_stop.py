"""The orderly stop: what is handled before it, what ends with it, and who may ask for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from threading import Event, Thread, current_thread
from time import monotonic

import pytest

from portkit import (
    DEFAULT_MODE,
    BecameInvalidError,
    CheckInError,
    InvalidPortError,
    LoopEndedError,
    PortMessage,
    ReceiveTimeoutError,
    RunLoop,
    RunResult,
    WrongThreadError,
)
from portkit.workers import Session, Worker, WorkerGroup
from tests.ports.helpers import Background
from tests.support import PATIENCE, Reports, eventually, keep_alive, run_on_thread
from tests.workers.helpers import Events, echo, idle, run_until

STOP_MODE = "portkit.workers.stop"


class Gated:
    """A target whose first message waits for ``gate``, so that others queue up behind it."""

    def __init__(self) -> None:
        self.gate = Event()
        self.ended: list[int] = []

    def __call__(self, session: Session) -> None:
        def delegate(message: PortMessage) -> None:
            assert self.gate.wait(PATIENCE)
            session.main.send(message.components)

        session.port.delegate = delegate
        session.run()
        self.ended.append(session.index)

    def open_during_stop(self) -> None:
        """Have the gate opened once the group waits, having told its workers to stop."""
        RunLoop.current().perform(self.gate.set, modes=STOP_MODE)


def test_what_was_sent_before_the_stop_is_handled_first() -> None:
    """And what the workers send meanwhile is handled too, as it was before."""
    target = Gated()
    events = Events()
    numbers = [str(number).encode() for number in range(300)]
    with WorkerGroup(target, count=2, on_message=events.message) as group:
        for number in numbers:
            group.broadcast(number)
        target.open_during_stop()
    for worker in group.workers:
        assert events.of(worker) == numbers
    assert sorted(target.ended) == [0, 1]


def test_requests_of_workers_are_answered_during_the_stop() -> None:
    answers: list[bytes | None] = []
    gate = Event()

    def target(session: Session) -> None:
        def delegate(message: PortMessage) -> None:
            assert gate.wait(PATIENCE)
            answers.append(session.main.request(b"?", reply_timeout=PATIENCE).data)

        session.port.delegate = delegate
        session.run()
        answers.append(session.main.request(b"??", reply_timeout=PATIENCE).data)

    with WorkerGroup(target, count=1, on_message=Events(b"yes").message) as group:
        group.broadcast()
        RunLoop.current().perform(gate.set, modes=STOP_MODE)
    assert answers == [b"yes", b"yes"]


def test_a_main_side_that_keeps_sending_does_not_keep_a_worker_from_stopping() -> None:
    """The worker handles what is there when it is told; its queue is never empty here."""

    def target(session: Session) -> None:
        session.port.delegate = lambda message: session.main.request(reply_timeout=PATIENCE)
        session.run()

    def on_message(worker: Worker, message: PortMessage) -> None:
        worker.port.send()

    with WorkerGroup(target, count=2, on_message=on_message) as group:
        group.broadcast()
        group.broadcast()
    assert not any(worker.is_alive for worker in group.workers)


def test_a_worker_inside_nested_runs() -> None:
    """A stop ends one run only; the worker's delegate may be in another, and that in a third."""
    events = Events()

    def target(session: Session) -> None:
        def delegate(message: PortMessage) -> None:
            session.main.send(message.components)
            session.loop.run()
            session.main.send(b"left " + (message.data or b""))

        session.port.delegate = delegate
        session.run()
        session.main.send(b"end")

    with WorkerGroup(target, count=1, on_message=events.message) as group:
        for name in (b"1", b"2", b"3"):
            group.broadcast(name)
            run_until(partial(lambda last: events.all[-1:] == [("worker-0", last)], name))
    assert events.of(group.workers[0])[3:] == [b"left 3", b"left 2", b"left 1", b"end"]


def test_a_worker_that_runs_again_is_stopped_again() -> None:
    """A stop is for good: a run that begins after it handles what is there and ends."""
    events = Events()

    def target(session: Session) -> None:
        session.port.delegate = lambda message: session.main.send(message.components)
        session.run()
        session.port.send(b"from myself")
        session.run()
        session.run()

    with WorkerGroup(target, count=1, on_message=events.message) as group:
        pass
    assert events.of(group.workers[0]) == [b"from myself"]


def test_a_worker_may_be_stopped_by_another_thread_of_its_own() -> None:
    """It then ends of itself, after the messages that are there."""
    events = Events()

    def target(session: Session) -> None:
        session.port.delegate = lambda message: session.main.send(message.components)
        session.check_in()
        for number in range(100):
            session.port.send(str(number).encode())
        Background(session.stop).result()
        session.run()

    with WorkerGroup(
        target, count=1, on_message=events.message, on_worker_lost=events.worker_lost
    ) as group:
        run_until(lambda: events.lost)
    numbers = [str(number).encode() for number in range(100)]
    assert events.of(group.workers[0]) == [*numbers, None]


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_worker_that_hangs_is_named(timeout: float) -> None:
    release = Event()

    def target(session: Session) -> None:
        session.check_in()
        if session.index == 1:
            assert release.wait(PATIENCE)
        session.run()

    group = WorkerGroup(target, count=3).start()
    with pytest.raises(ReceiveTimeoutError, match=rf"worker-1.* did not stop within {timeout} s"):
        group.stop(timeout)
    assert group.workers[1].is_alive
    # It finds its main side gone, and ends; a second stop waits for that.
    release.set()
    group.stop(PATIENCE)
    assert not any(worker.is_alive for worker in group.workers)


def test_a_worker_that_hangs_finds_its_main_side_gone() -> None:
    release = Event()
    outcome: list[BaseException] = []

    def target(session: Session) -> None:
        main = session.main
        assert release.wait(PATIENCE)
        try:
            main.send(b"x")
        except InvalidPortError as error:
            outcome.append(error)

    group = WorkerGroup(target, count=1).start()
    with pytest.raises(ReceiveTimeoutError):
        group.stop(0)
    release.set()
    group.stop(PATIENCE)
    assert len(outcome) == 1


def test_stop_waits_no_longer_than_its_time_out() -> None:
    release = Event()

    def target(session: Session) -> None:
        session.check_in()
        assert release.wait(PATIENCE)

    group = WorkerGroup(target, count=1).start()
    began = monotonic()
    with pytest.raises(ReceiveTimeoutError):
        group.stop(0.1)
    assert 0.09 < monotonic() - began < 5
    release.set()
    group.stop(None)


def test_stop_is_idempotent() -> None:
    group = WorkerGroup(idle, count=2)
    group.stop()  # there is nothing to stop yet, and it can still be started
    with group:
        group.stop()
        assert not any(worker.is_alive for worker in group.workers)
        group.stop(0)
    group.stop()


def test_stop_with_time_out_0_sees_workers_that_have_ended() -> None:
    """One try is one pass: the news is there, it only was not looked at yet."""
    group = WorkerGroup(lambda session: session.check_in(), count=3).start()
    assert group._launcher is not None
    group._launcher.join(PATIENCE)
    group.stop(0)
    assert not any(worker.is_alive for worker in group.workers)


@pytest.mark.parametrize("timeout", ["1", True, float("nan")])
def test_stop_with_a_wrong_time_out_stops_nothing(timeout: float) -> None:
    with WorkerGroup(echo, count=1) as group:
        with pytest.raises((TypeError, ValueError)):
            group.stop(timeout)
        assert group.workers[0].port.request(b"x").data == b"x"


def test_stop_on_the_wrong_thread_stops_nothing() -> None:
    """The group goes on as before, and still tells of workers that are lost."""
    events = Events()

    def target(session: Session) -> None:
        session.port.delegate = lambda message: session.loop.stop()
        session.run()

    with WorkerGroup(target, count=1, on_worker_lost=events.worker_lost) as group:
        with pytest.raises(WrongThreadError, match=r"WorkerGroup\.stop\(\) was called on thread"):
            Background(group.stop).result()
        assert group.workers[0].is_alive
        group.broadcast()
        run_until(lambda: events.lost)


def test_stop_inside_on_message() -> None:
    events = Events()

    def on_message(worker: Worker, message: PortMessage) -> None:
        events.message(worker, message)
        if message.data == b"stop":
            group.stop()

    def target(session: Session) -> None:
        session.main.send(b"stop")
        session.main.send(b"more")
        session.run()

    group = WorkerGroup(target, count=2, on_message=on_message)
    with group:
        run_until(lambda: events.all)
    for worker in group.workers:
        assert sorted(events.of(worker), key=str) == [b"more", b"stop"]
        assert not worker.is_alive


def test_stop_inside_on_message_answers_the_request_it_handles() -> None:
    """Its sender cannot end before: the stop runs into its time-out, says so, and all goes on."""
    answers: list[bytes | None] = []

    def on_message(worker: Worker, message: PortMessage) -> bytes:
        with pytest.raises(ReceiveTimeoutError, match="worker-0"):
            group.stop(timeout=0.05)
        return b"stopped"

    def target(session: Session) -> None:
        answers.append(session.main.request(b"stop", reply_timeout=PATIENCE).data)
        session.run()

    group = WorkerGroup(target, count=1, on_message=on_message)
    with group:
        run_until(lambda: not group.workers[0].is_alive)
    assert answers == [b"stopped"]


def test_stop_inside_on_worker_lost() -> None:
    lost: list[Worker] = []

    def on_worker_lost(worker: Worker) -> None:
        lost.append(worker)
        group.stop()

    def target(session: Session) -> None:
        session.port.delegate = lambda message: session.loop.stop()
        session.run()

    group = WorkerGroup(target, count=3, on_worker_lost=on_worker_lost)
    with group:
        group.workers[1].port.send()
        run_until(lambda: lost)
        assert not any(worker.is_alive for worker in group.workers)
    assert lost == [group.workers[1]]


def test_stop_while_starting() -> None:
    """From a callback of a worker that is lost while others are still to check in."""

    def on_worker_lost(worker: Worker) -> None:
        try:
            group.stop(timeout=0.05)
        finally:
            release.set()

    def target(session: Session) -> None:
        if session.index == 1:
            assert release.wait(PATIENCE)
        session.check_in()

    release = Event()
    group = WorkerGroup(target, count=2, on_worker_lost=on_worker_lost, check_in_timeout=PATIENCE)
    loop = RunLoop.current()
    told: list[object] = []
    loop.exception_handler = lambda loop, context: told.append(context["exception"])
    try:
        with pytest.raises(CheckInError, match="stopped by a callback while it was starting"):
            group.start()
    finally:
        loop.exception_handler = None
    assert any(isinstance(error, ReceiveTimeoutError) for error in told)


def test_an_error_inside_the_block_comes_out() -> None:
    ended: list[int] = []

    def target(session: Session) -> None:
        session.run()
        ended.append(session.index)

    with pytest.raises(LookupError, match="mine"), WorkerGroup(target, count=2):
        raise LookupError("mine")
    assert sorted(ended) == [0, 1]


def test_an_error_inside_the_block_is_not_masked_by_workers_that_fail(reports: Reports) -> None:
    def target(session: Session) -> None:
        session.run()
        raise ValueError("at the end")

    with pytest.raises(LookupError, match="mine"), WorkerGroup(target, count=1):
        raise LookupError("mine")
    (error,) = reports.take()
    assert "at the end" in str(error)


def test_an_interrupt_inside_the_loop() -> None:
    """Ctrl-C while the main thread waits: it comes out, and the workers have ended by then."""
    loop = RunLoop.current()
    ended: list[int] = []

    def target(session: Session) -> None:
        session.check_in()
        if session.index == 0:
            assert eventually(lambda: loop.is_waiting and loop.current_mode == DEFAULT_MODE)
            os.kill(os.getpid(), signal.SIGINT)
        session.run()
        ended.append(session.index)

    with pytest.raises(KeyboardInterrupt), WorkerGroup(target, count=2):
        loop.run(PATIENCE)
    assert sorted(ended) == [0, 1]


def test_an_interrupt_while_starting() -> None:
    loop = RunLoop.current()

    def target(session: Session) -> None:
        if session.index == 0:
            assert eventually(lambda: loop.is_waiting)
            os.kill(os.getpid(), signal.SIGINT)
            return
        session.run()

    group = WorkerGroup(target, count=2, check_in_timeout=PATIENCE)
    with pytest.raises((KeyboardInterrupt, CheckInError)):
        group.start()
    assert not any(worker.is_alive for worker in group.workers)


# A stop of the loop, asked for while the group waits, is meant for the run around that wait.


@pytest.mark.own_thread
def test_a_loop_stopped_during_the_groups_stop_stops() -> None:
    loop = RunLoop.current()
    keep_alive(loop)

    def on_message(worker: Worker, message: PortMessage) -> None:
        loop.stop()

    def target(session: Session) -> None:
        session.run()
        session.main.send(b"last")

    group = WorkerGroup(target, count=2, on_message=on_message).start()
    loop.perform(group.stop)
    assert loop.run(PATIENCE) is RunResult.STOPPED
    assert not any(worker.is_alive for worker in group.workers)


@pytest.mark.own_thread
def test_a_loop_stopped_during_the_groups_start_stops() -> None:
    loop = RunLoop.current()
    keep_alive(loop)

    def target(session: Session) -> None:
        loop.stop()
        session.run()

    group = WorkerGroup(target, count=2)
    loop.perform(group.start)
    assert loop.run(PATIENCE) is RunResult.STOPPED
    assert all(worker.is_alive for worker in group.workers)
    group.stop()


# The group's thread ends.


def idle_and_tell(ended: list[int]) -> Callable[[Session], None]:
    def target(session: Session) -> None:
        session.run()
        ended.append(session.index)

    return target


def test_workers_end_with_their_groups_thread() -> None:
    ended: list[int] = []
    groups: list[WorkerGroup] = []
    threads: list[Thread] = []

    def target(session: Session) -> None:
        threads.append(current_thread())
        idle_and_tell(ended)(session)

    def main_side() -> None:
        groups.append(WorkerGroup(target, count=3).start())

    run_on_thread(main_side)
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(ended) == [0, 1, 2]
    with pytest.raises(LoopEndedError):
        groups[0].stop()


def test_a_request_to_a_group_whose_thread_ends_fails_at_once() -> None:
    outcome: list[BaseException] = []
    asked = Event()

    def target(session: Session) -> None:
        main = session.main
        asked.set()
        try:
            main.request(b"?", reply_timeout=PATIENCE)
        except (BecameInvalidError, InvalidPortError) as error:
            outcome.append(error)

    def main_side() -> None:
        group = WorkerGroup(target, count=1).start()
        assert asked.wait(PATIENCE)
        worker = group.workers[0]
        main_port = worker._main_port
        assert main_port is not None
        assert eventually(lambda: main_port.pending)

    run_on_thread(main_side)
    assert eventually(lambda: outcome)


def test_a_worker_that_dies_after_its_groups_thread_is_reported(reports: Reports) -> None:
    release = Event()
    group_over = Event()

    def target(session: Session) -> None:
        session.check_in()
        assert release.wait(PATIENCE)
        raise ValueError("late")

    def main_side() -> None:
        WorkerGroup(target, count=1).start()
        group_over.set()

    run_on_thread(main_side)
    assert group_over.is_set()
    release.set()
    assert eventually(lambda: len(reports.records) >= 1)
    assert any(isinstance(error, ValueError) for error in reports.take())
