"""Workers that end when they should not: before their check-in, and after it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest

from portkit import (
    DEFAULT_MODE,
    InputSource,
    PortMessage,
    RunLoop,
    WorkerDiedError,
)
from portkit.workers import Session, Worker, WorkerGroup, threads
from tests.support import PATIENCE, Reports, open_descriptors
from tests.workers.helpers import Events, echo, idle, run_until


class Catastrophe(BaseException):
    """Something that no ``except Exception`` catches."""


# Before the check-in.


def raises(error: BaseException) -> Callable[[Session], None]:
    def target(session: Session) -> None:
        raise error

    return target


EARLY: dict[str, tuple[Any, str]] = {
    "an error": (raises(ValueError("broken")), "ValueError: broken"),
    "a BaseException": (raises(Catastrophe("broken")), "Catastrophe: broken"),
    "a status": (raises(SystemExit(3)), "SystemExit: 3"),
    "a good status": (raises(SystemExit(0)), "ended without checking in"),
    "no status": (raises(SystemExit()), "ended without checking in"),
    "a return": (lambda session: None, "ended without checking in"),
    "no module": ("tests.nothing_here:target", "ModuleNotFoundError"),
    "no function": ("tests.workers.helpers:nothing", "AttributeError"),
    "no callable": ("tests.workers.helpers:PATIENCE", "not callable"),
}


@pytest.mark.parametrize(("target", "what"), EARLY.values(), ids=EARLY)
def test_death_before_the_check_in_ends_the_start(target: Any, what: str) -> None:
    group = WorkerGroup(target, count=2)
    with pytest.raises(WorkerDiedError) as caught:
        group.start()
    assert what in str(caught.value)
    assert "worker-" in str(caught.value)
    assert not any(worker.is_alive for worker in group.workers)


def test_the_error_holds_the_workers_traceback() -> None:
    def helper_that_breaks() -> None:
        raise ValueError("broken")

    def target(session: Session) -> None:
        helper_that_breaks()

    with pytest.raises(WorkerDiedError) as caught:
        WorkerGroup(target, count=1).start()
    assert "worker-0 died before its check-in" in str(caught.value)
    assert "in helper_that_breaks" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_when_one_dies_all_others_are_stopped() -> None:
    ended: list[int] = []
    others_run = [Event() for _ in range(3)]

    def target(session: Session) -> None:
        if session.index == 3:
            assert all(event.wait(PATIENCE) for event in others_run)
            raise ValueError("broken")
        session.check_in()
        others_run[session.index].set()
        session.run()
        ended.append(session.index)

    group = WorkerGroup(target, count=4)
    with pytest.raises(WorkerDiedError, match="worker-3 died"):
        group.start()
    assert sorted(ended) == [0, 1, 2]
    assert [repr(worker) for worker in group.workers] == [
        "<Worker 'worker-0' ended>",
        "<Worker 'worker-1' ended>",
        "<Worker 'worker-2' ended>",
        "<Worker 'worker-3' died>",
    ]


def test_module_and_function_by_name() -> None:
    with WorkerGroup("tests.workers.helpers:echo", count=1) as group:
        assert group.workers[0].port.request(b"x").data == b"x"


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is injected is the system's refusal; the others run and are stopped for real."""

    class Scarce(Thread):
        def start(self) -> None:
            if self.name == "worker-2":
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(threads, "Thread", Scarce)
    group = WorkerGroup(idle, count=4)
    with pytest.raises(WorkerDiedError, match="worker-2 could not be started: can't start new"):
        group.start()
    assert not any(worker.is_alive for worker in group.workers)


@pytest.mark.parametrize("runs", [False, True])
def test_an_interrupt_while_a_thread_is_started(
    monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    """It may strike before the thread runs or after; the group waits for it in neither case."""

    class Interrupted(Thread):
        def start(self) -> None:
            if self.name != "worker-1":
                super().start()
                return
            if runs:
                super().start()
            raise KeyboardInterrupt

    monkeypatch.setattr(threads, "Thread", Interrupted)
    group = WorkerGroup(idle, count=3)
    with pytest.raises(KeyboardInterrupt):
        group.start()
    assert not any(worker.is_alive for worker in group.workers)


@contextmanager
def few_descriptors(free: int) -> Iterator[None]:
    """Let this process open so many more descriptors."""
    used = open_descriptors()
    unused = [fd for fd in range(max(used) + free + 2) if fd not in used]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused[free], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_that_gets_no_descriptors() -> None:
    """Not even its end can be prepared then; it is reported all the same, and at once."""
    group = WorkerGroup(idle, count=8, check_in_timeout=PATIENCE)
    with few_descriptors(5), pytest.raises(WorkerDiedError, match="Too many open files"):
        group.start()


def test_an_error_at_the_end_of_the_thread_is_reported(reports: Reports) -> None:
    """The cancel callout of a source runs when the thread's loop ends; the worker had returned."""

    def cancel(source: InputSource, loop: RunLoop, mode: str) -> None:
        raise Catastrophe("at the end")

    def target(session: Session) -> None:
        session.loop.add_source(InputSource(print, cancel=cancel))
        session.run()

    events = Events()
    with WorkerGroup(target, count=1, on_worker_lost=events.worker_lost) as group:
        worker = group.workers[0]
    assert [type(error) for error in reports.take()] == [Catastrophe]
    assert events.lost == []
    assert not worker.is_alive


# After the check-in.


def raise_after_run(session: Session) -> None:
    session.port.delegate = lambda message: session.loop.stop()
    session.run()
    if session.index == 0:
        session.main.send(b"last")
        raise ValueError("broken")


def raise_base_from_delegate(session: Session) -> None:
    def delegate(message: PortMessage) -> None:
        session.main.send(b"last")
        raise Catastrophe("broken")

    session.port.delegate = delegate
    session.run()


def exit_from_delegate(session: Session) -> None:
    def delegate(message: PortMessage) -> None:
        session.main.send(b"last")
        raise SystemExit("broken")

    session.port.delegate = delegate
    session.run()


DEATHS = {
    "raise after run": (raise_after_run, "ValueError: broken"),
    "BaseException": (raise_base_from_delegate, "Catastrophe: broken"),
    "SystemExit": (exit_from_delegate, "SystemExit: broken"),
}


@pytest.mark.parametrize(("target", "what"), DEATHS.values(), ids=DEATHS)
def test_death_after_the_check_in(target: Callable[[Session], None], what: str) -> None:
    events = Events()
    with WorkerGroup(
        target, count=2, on_message=events.message, on_worker_lost=events.worker_lost
    ) as group:
        first, second = group.workers
        first.port.send()
        run_until(lambda: events.lost)
        assert events.lost == [first]
        assert events.of(first) == [b"last", None]
        assert not first.is_alive
        assert second.is_alive
        assert isinstance(first.error, WorkerDiedError)
        assert "worker-0 died after its check-in" in str(first.error)
        assert "Traceback" in str(first.error)
        assert what in str(first.error)
        assert not first.port.is_valid
    assert events.lost == [first]  # the second one was told to stop


@pytest.mark.parametrize("status", [None, 0, "return"])
def test_an_early_return_is_a_loss_without_an_error(status: object) -> None:
    def target(session: Session) -> None:
        session.check_in()
        if status != "return":
            raise SystemExit(status)

    events = Events()
    with WorkerGroup(target, count=1, on_worker_lost=events.worker_lost) as group:
        run_until(lambda: events.lost)
        assert group.workers[0].error is None
        assert not group.workers[0].is_alive
        assert repr(group) == "<WorkerGroup over mach: 0 of 1 workers alive>"


def test_the_loss_comes_after_the_last_message_however_many_there_are() -> None:
    def target(session: Session) -> None:
        for number in range(1000):
            session.main.send(str(number).encode())
        raise ValueError("broken")

    events = Events()
    with WorkerGroup(
        target, count=2, on_message=events.message, on_worker_lost=events.worker_lost
    ) as group:
        run_until(lambda: len(events.lost) == 2)
        for worker in group.workers:
            assert events.of(worker) == [*[str(n).encode() for n in range(1000)], None]


def test_the_loss_comes_after_the_last_message_in_a_nested_run_too() -> None:
    """A handler that runs the loop: the news of the end overtakes nothing there either."""
    events = Events()
    loop = RunLoop.current()

    def on_message(worker: Worker, message: PortMessage) -> None:
        if message.data == b"1":
            while not events.lost:
                loop.run_mode(DEFAULT_MODE, PATIENCE)
        events.message(worker, message)

    def target(session: Session) -> None:
        for number in range(4):
            session.main.send(str(number).encode())

    with WorkerGroup(
        target, count=1, on_message=on_message, on_worker_lost=events.worker_lost
    ) as group:
        run_until(lambda: len(events.all) == 5)
        assert events.of(group.workers[0]) == [b"0", b"2", b"3", None, b"1"]


@pytest.mark.own_thread
@pytest.mark.parametrize("target", [raise_after_run, raise_base_from_delegate])
def test_without_a_handler_the_loops_exception_handler_is_told(
    target: Callable[[Session], None],
) -> None:
    told: list[Any] = []
    RunLoop.current().exception_handler = lambda loop, context: told.append(context)
    with WorkerGroup(target, count=1, on_message=Events().message) as group:
        group.workers[0].port.send()
        run_until(lambda: told)
    (context,) = told
    assert context["message"] == "a worker died"
    assert context["source"] is group.workers[0]
    assert context["exception"] is group.workers[0].error


def test_without_a_handler_an_early_return_is_nothing_to_tell() -> None:
    with WorkerGroup(lambda session: session.check_in(), count=1) as group:
        run_until(lambda: not group.workers[0].is_alive)


def test_a_loss_handler_that_raises_is_reported(reports: Reports) -> None:
    def on_worker_lost(worker: Worker) -> None:
        raise LookupError("handler")

    def target(session: Session) -> None:
        session.check_in()
        raise ValueError("broken")

    with WorkerGroup(target, count=3, on_worker_lost=on_worker_lost) as group:
        run_until(lambda: not any(worker.is_alive for worker in group.workers))
    assert [type(error) for error in reports.take()] == [LookupError] * 3


def test_a_handler_that_raises_at_a_last_message_gets_the_others(reports: Reports) -> None:
    events = Events()

    def on_message(worker: Worker, message: PortMessage) -> None:
        events.message(worker, message)
        if message.data == b"1":
            raise LookupError("handler")

    def target(session: Session) -> None:
        for number in range(3):
            session.main.send(str(number).encode())
        hand_over.set()

    hand_over = Event()
    with WorkerGroup(
        target, count=1, on_message=on_message, on_worker_lost=events.worker_lost
    ) as group:
        assert hand_over.wait(PATIENCE)
        run_until(lambda: events.lost)
        assert events.of(group.workers[0]) == [b"0", b"1", b"2", None]
    assert len(reports.take()) == 1


def test_a_worker_lost_while_others_still_start() -> None:
    """It has checked in: the start does not fail, and the handler is told during the start."""
    events = Events()
    lost = Event()

    def on_worker_lost(worker: Worker) -> None:
        events.worker_lost(worker)
        lost.set()

    def target(session: Session) -> None:
        if session.index == 0:
            session.main.send(b"last")
            raise ValueError("broken")
        assert lost.wait(PATIENCE)
        echo(session)

    with WorkerGroup(
        target,
        count=2,
        on_message=events.message,
        on_worker_lost=on_worker_lost,
        check_in_timeout=PATIENCE,
    ) as group:
        first, second = group.workers
        assert events.of(first) == [b"last", None]
        assert not first.is_alive
        assert second.is_alive
        assert group.broadcast() == [second]


def test_death_on_the_way_out_is_told() -> None:
    """A worker that was told to stop may fail at that."""

    def target(session: Session) -> None:
        session.run()
        raise ValueError("at the end")

    events = Events()
    with WorkerGroup(target, count=2, on_worker_lost=events.worker_lost) as group:
        pass
    assert set(events.lost) == set(group.workers)
    assert all("at the end" in str(worker.error) for worker in group.workers)


def test_a_callback_that_raises_does_not_kill_a_worker(reports: Reports) -> None:
    handled: list[bytes | None] = []

    def target(session: Session) -> None:
        def delegate(message: PortMessage) -> bytes:
            if message.data == b"bad":
                raise ValueError("bad message")
            return message.data or b""

        def fail() -> None:
            raise LookupError("performed")

        session.loop.perform(fail)
        session.port.delegate = delegate
        session.run()

    with WorkerGroup(target, count=1) as group:
        port = group.workers[0].port
        port.send(b"bad")
        handled.append(port.request(b"good").data)
        assert group.workers[0].is_alive
    assert handled == [b"good"]
    assert {type(error) for error in reports.take()} == {ValueError, LookupError}


# A Ctrl-C between a worker's end and what the group makes of it.


def interrupt_in_message(worker: Worker, message: PortMessage) -> None:
    raise KeyboardInterrupt


def interrupt_in_loss(worker: Worker) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["last message", "loss"])
def test_an_interrupt_at_a_workers_end_does_not_lose_the_end(where: str) -> None:
    """The stop that follows must not wait for a worker that is gone."""
    go = Event()

    def target(session: Session) -> None:
        session.check_in()
        assert go.wait(PATIENCE)
        session.main.send(b"last")

    group = WorkerGroup(target, count=1, on_message=Events().message)
    if where == "loss":
        group.on_worker_lost = interrupt_in_loss
    else:
        group.on_message = interrupt_in_message
    group.start()
    go.set()
    assert group._launcher is not None
    group._launcher.join(PATIENCE)  # now the news of the end is there, and the message unread
    with pytest.raises(KeyboardInterrupt):
        RunLoop.current().run(PATIENCE)
    group.on_worker_lost = None
    group.stop(timeout=1.0)
    assert not group.workers[0].is_alive
