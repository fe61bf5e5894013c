"""Several groups, groups in workers, forks, and many threads that come and go."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from portkit import PortMessage, RunLoop
from portkit.workers import Session, Worker, WorkerGroup
from tests.ports.helpers import in_child
from tests.support import PATIENCE, Leftovers, run_on_thread
from tests.workers.helpers import Events, echo, idle, run_until


def test_two_groups_on_one_loop() -> None:
    events = [Events(), Events()]
    with (
        WorkerGroup(echo, count=2, name="a", on_message=events[0].message) as first,
        WorkerGroup(echo, count=2, name="b", on_message=events[1].message) as second,
    ):
        first.broadcast(b"1")
        second.broadcast(b"2")
        run_until(lambda: all(len(each.all) == 2 for each in events))
        first.stop()
        assert not any(worker.is_alive for worker in first.workers)
        second.broadcast(b"3")
        run_until(lambda: len(events[1].all) == 4)
    assert sorted(events[0].all) == [("a-0", b"1"), ("a-1", b"1")]
    assert sorted(events[1].all) == [("b-0", b"2"), ("b-0", b"3"), ("b-1", b"2"), ("b-1", b"3")]


def test_two_groups_on_two_threads() -> None:
    def main_side(name: str) -> list[bytes | None]:
        events = Events()
        with WorkerGroup(echo, count=2, name=name, on_message=events.message) as group:
            group.broadcast(name.encode())
            run_until(lambda: len(events.all) == 2)
        return [data for _, data in events.all]

    results: dict[str, list[bytes | None]] = {}

    def note(name: str) -> None:
        results[name] = run_on_thread(lambda: main_side(name))

    threads = [threading.Thread(target=note, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == {"a": [b"a", b"a"], "b": [b"b", b"b"]}


def test_a_group_started_by_a_callback_of_another() -> None:
    started: list[WorkerGroup] = []

    def on_message(worker: Worker, message: PortMessage) -> None:
        started.append(WorkerGroup(echo, count=2, name="inner").start())

    with WorkerGroup(echo, count=1, on_message=on_message) as group:
        group.broadcast(b"go")
        run_until(lambda: started)
        assert started[0].workers[1].port.request(b"x").data == b"x"
    started[0].stop()


@pytest.mark.parametrize("in_time", [True, False], ids=["stopped", "left behind"])
def test_a_worker_that_runs_a_group(in_time: bool) -> None:
    """It ends with its worker, whether that stops it or just returns."""
    events = Events()
    ended: list[str] = []

    def inner(session: Session) -> None:
        echo(session)
        ended.append(session.name)

    def target(session: Session) -> None:
        def pass_up(worker: Worker, message: PortMessage) -> None:
            session.main.send(worker.name.encode() + b": " + (message.data or b""))

        group = WorkerGroup(inner, count=2, name=f"{session.name}-inner", on_message=pass_up)
        session.port.delegate = lambda message: group.broadcast(message.components) and None
        group.start()
        threads.extend(
            thread for thread in threading.enumerate() if thread.name.startswith(f"{session.name}-")
        )
        session.run()
        if in_time:
            group.stop()

    threads: list[threading.Thread] = []
    with WorkerGroup(target, count=2, name="w", on_message=events.message) as group:
        group.broadcast(b"x")
        run_until(lambda: len(events.all) == 4)
    for thread in threads:
        thread.join(PATIENCE)
    assert {data for _, data in events.all} == {
        f"w-{outer}-inner-{index}: x".encode() for outer in (0, 1) for index in (0, 1)
    }
    assert len(ended) == 4


def test_the_same_target_object_serves_all_workers() -> None:
    threads: set[int] = set()
    loops: set[RunLoop] = set()

    def target(session: Session) -> None:
        threads.add(threading.get_ident())
        loops.add(session.loop)
        assert session.loop is RunLoop.current()
        session.run()

    with WorkerGroup(target, count=5):
        assert len(threads) == len(loops) == 5


# Forks.

IN_CHILD: dict[str, Callable[[WorkerGroup], object]] = {
    "broadcast": lambda group: group.broadcast(b"x"),
    "stop": lambda group: group.stop(),
    "leave": lambda group: group.__exit__(None, None, None),
    "send": lambda group: group.workers[0].port.send(b"x"),
    "request": lambda group: group.workers[0].port.request(b"x"),
}


@pytest.mark.parametrize("call", IN_CHILD.values(), ids=IN_CHILD)
def test_a_forked_child_is_told_that_the_group_is_its_parents(
    call: Callable[[WorkerGroup], object],
) -> None:
    with WorkerGroup(echo, count=2) as group:
        said = in_child(lambda: call(group))
        assert said.startswith(("LoopEndedError", "InvalidPortError"))
        assert "forked" in said
        for worker in group.workers:
            assert worker.port.request(b"parent").data == b"parent"


def test_an_error_in_a_forked_child_comes_out_of_the_block() -> None:
    """The child cannot stop the parent's group; that must not mask why it leaves the block."""

    def child() -> str:
        try:
            group.__exit__(LookupError, LookupError("mine"), None)
        except BaseException as error:
            return repr(error)
        return "not masked"

    with WorkerGroup(echo, count=1) as group:
        assert in_child(child) == "not masked"
        assert group.workers[0].port.request(b"parent").data == b"parent"


def test_a_forked_child_has_groups_of_its_own() -> None:
    def child() -> bytes | None:
        with WorkerGroup(echo, count=2) as own:
            return own.workers[1].port.request(b"child").data

    prepared = WorkerGroup(echo, count=1)

    def start_prepared() -> bytes | None:
        with prepared:
            return prepared.workers[0].port.request(b"child").data

    with WorkerGroup(echo, count=2) as group:
        assert in_child(child) == "b'child'"
        assert in_child(start_prepared) == "b'child'"
        assert group.workers[0].port.request(b"parent").data == b"parent"


def test_a_fork_in_a_worker() -> None:
    events = Events()

    def target(session: Session) -> None:
        session.main.send(in_child(lambda: session.main.send(b"child")).encode())
        session.run()

    with WorkerGroup(target, count=2, on_message=events.message):
        run_until(lambda: len(events.all) == 2)
    for _, data in events.all:
        assert data is not None
        assert data.startswith(b"InvalidPortError")


# Churn.


def test_200_threads_10_times_leave_nothing_behind() -> None:
    """The case that crashed Apple's system: loops of threads that end while others use them."""
    before = Leftovers()
    rounds = 10
    for number in range(rounds):
        events = Events()

        def target(session: Session, number: int = number) -> None:
            session.port.delegate = lambda message: session.main.send(message.components)
            if session.index % 3:
                session.run()
            else:
                # Gone at once, of itself: its end crosses the others' check-ins.
                session.main.send(b"gone")

        with WorkerGroup(
            target,
            count=200,
            check_in_timeout=PATIENCE,
            on_message=events.message,
            on_worker_lost=events.worker_lost,
        ) as group:
            run_until(lambda events=events: len(events.lost) == 67)  # type: ignore[misc]
            reached = group.broadcast(b"x")
            assert [worker.index % 3 != 0 for worker in reached] == [True] * 133
            if number % 2:
                run_until(lambda events=events: len(events.all) == 2 * 67 + 133)  # type: ignore[misc]
        assert len(events.all) == 2 * 67 + 133
        assert all(worker.error is None for worker in group.workers)
    assert not before.settle()
    assert threading.active_count() < 50


def test_many_groups_in_many_threads() -> None:
    """Check-ins of several groups at once, and groups that end with their threads."""
    failures: list[BaseException] = []

    def main_side(number: int) -> None:
        try:
            for _ in range(5):
                group = WorkerGroup(idle, count=4, check_in_timeout=PATIENCE).start()
                if number % 2:
                    group.stop()
        except BaseException as error:
            failures.append(error)

    before = Leftovers()
    threads = [threading.Thread(target=main_side, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures
    assert not before.settle(PATIENCE)


def test_a_worker_process_exits_cleanly_with_a_group_that_nobody_stopped() -> None:
    """The workers are daemons: they do not keep the process."""
    program = (
        "from portkit.workers import WorkerGroup\n"
        "group = WorkerGroup(lambda session: session.run(), count=3).start()\n"
        "print('started')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == "started\n"
    assert done.stderr == ""
