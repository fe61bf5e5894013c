"""Workers that were lost and are started again."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydantic import ValidationError

from portkit import DEFAULT_MODE, RunLoop
from portkit.workers import Restart, Session, Worker, WorkerGroup
from tests.support import PATIENCE, Reports, eventually
from tests.workers.helpers import Events, echo, run_until

TARGET = "tests.workers.targets:die_at_first"
OBEY = "tests.workers.targets:obey"
SOON = Restart(backoff=0.01)

pytestmark = [pytest.mark.own_thread, pytest.mark.usefixtures("folder")]


class Lives(Events):
    """A group's callbacks, and what they saw."""

    def __init__(self) -> None:
        super().__init__()
        self.restarted: list[Worker] = []
        self.seen: list[tuple[str, int, bool, bool]] = []

    def worker_lost(self, worker: Worker) -> None:
        """For ``on_worker_lost``."""
        super().worker_lost(worker)
        self.seen.append(("lost", worker.restarts, worker.is_alive, worker.is_restarting))

    def worker_restarted(self, worker: Worker) -> None:
        """For ``on_worker_restarted``."""
        self.restarted.append(worker)
        self.seen.append(("restarted", worker.restarts, worker.is_alive, worker.is_restarting))
        assert worker.error is None


def group_of(lives: Lives, target: Any = TARGET, count: int = 1, **options: Any) -> WorkerGroup:
    options = {
        "over": "message",
        "check_in_timeout": PATIENCE,
        "restart": SOON,
        "on_message": lives.message,
        "on_worker_lost": lives.worker_lost,
        "on_worker_restarted": lives.worker_restarted,
        **options,
    }
    return WorkerGroup(target, count=count, **options)


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], Path]:
    """Have workers die at their first so many starts; the file with the times of all."""

    def prepare(count: int) -> Path:
        monkeypatch.setenv("TEST_MARKS", str(tmp_path / "marks"))
        monkeypatch.setenv("TEST_DEATHS", str(count))
        return tmp_path / "marks"

    return prepare


def times_of(marks: Path) -> list[float]:
    return [float(line) for line in marks.read_text().split()]


def run_with_timers_until(condition: Callable[[], object]) -> None:
    """As ``run_until``, for what a timer brings about, which ends no run of a mode."""
    loop = RunLoop.current()
    assert eventually(lambda: loop.run_mode(DEFAULT_MODE, 0.01) and condition())


# The policy.


def test_pauses_grow_up_to_the_longest() -> None:
    policy = Restart(max_restarts=5, within=100.0, backoff=1.0, max_backoff=3.0)
    earlier: deque[float] = deque()
    pauses = []
    for now in range(6):
        pauses.append(policy.pause(earlier, float(now)))
        earlier.append(float(now))
    assert pauses == [1.0, 2.0, 3.0, 3.0, 3.0, None]


def test_restarts_long_ago_do_not_count() -> None:
    policy = Restart(max_restarts=2, within=10.0, backoff=1.0)
    earlier = deque([0.0, 9.0])
    assert policy.pause(earlier, 9.9) is None
    assert policy.pause(earlier, 10.0) == 2.0
    assert policy.pause(earlier, 19.0) == 1.0
    assert not earlier


def test_many_restarts_overflow_nothing() -> None:
    policy = Restart(max_restarts=10_000)
    assert policy.pause(deque([0.0] * 9_999), 0.0) == 5.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_restarts": 0},
        {"within": 0},
        {"backoff": -1},
        {"max_backoff": float("nan")},
        {"within": float("inf")},
        {"after": 1},
    ],
    ids=str,
)
def test_wrong_policies(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Restart(**wrong)


def test_another_policy_is_none() -> None:
    with pytest.raises(TypeError, match=r"restart is a portkit\.Restart, not int"):
        WorkerGroup(echo, restart=3)  # type: ignore[arg-type]


# Processes.


def test_a_killed_worker_is_replaced_under_its_number() -> None:
    lives = Lives()
    with group_of(lives, OBEY, count=2) as group:
        first, second = group.workers
        pid, token, port = first.pid, first.token, first.port
        os.kill(pid or 0, signal.SIGKILL)
        run_until(lambda: lives.restarted)
        assert lives.seen == [("lost", 0, False, True), ("restarted", 1, True, False)]
        assert lives.restarted == lives.lost == [first]
        assert first.pid not in {pid, None}
        assert first.token != token
        assert not port.is_valid
        assert first.port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"
        assert second.restarts == 0
        assert group.broadcast(b"echo x") == [first, second]
        assert repr(first) == "<Worker 'worker-0' alive>"
    assert not any(worker.is_alive or worker.error for worker in group.workers)


def test_a_worker_that_dies_again_waits_longer_each_time(
    deaths: Callable[[int], Path],
) -> None:
    marks = deaths(3)
    lives = Lives()
    policy = Restart(max_restarts=3, backoff=0.2)
    with group_of(lives, restart=policy) as group:
        run_until(lambda: len(lives.restarted) == 3 and group.workers[0].is_alive)
        assert group.workers[0].port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"
    assert [what for what, *_ in lives.seen] == ["lost", "restarted"] * 3
    starts = times_of(marks)
    assert len(starts) == 4
    for pause, (before, after) in zip((0.2, 0.4, 0.8), pairwise(starts), strict=True):
        assert after - before >= pause


def test_it_is_given_up_after_the_last_restart(deaths: Callable[[int], Path]) -> None:
    marks = deaths(100)
    lives = Lives()
    with group_of(lives, restart=Restart(max_restarts=2, backoff=0.01)) as group:
        run_until(lambda: len(lives.lost) == 3)
        worker = group.workers[0]
        assert (worker.restarts, worker.is_restarting, worker.is_alive) == (2, False, False)
        assert "exit status 9" in str(worker.error)
    assert lives.seen[-1] == ("lost", 2, False, False)
    assert len(times_of(marks)) == 3


def test_deaths_before_the_check_in_count_too(
    deaths: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not at the first start, which fails then."""
    lives = Lives()
    with group_of(lives, OBEY, restart=Restart(max_restarts=2, backoff=0.0)) as group:
        assert group._launcher is not None
        group._launcher._target = "tests.workers.targets:raise_at_once"
        os.kill(group.workers[0].pid or 0, signal.SIGKILL)
        run_until(lambda: len(lives.lost) == 3)
        assert lives.restarted == []
        assert "died before its check-in: exit status 1" in str(group.workers[0].error)


def test_one_that_does_not_check_in_again_is_killed() -> None:
    lives = Lives()
    group = group_of(
        lives,
        OBEY,
        check_in_timeout=3.0,
        restart=Restart(max_restarts=1, backoff=0.0),
    )
    with group:
        assert group._launcher is not None
        group._launcher._target = "tests.workers.targets:never_check_in"
        os.kill(group.workers[0].pid or 0, signal.SIGKILL)
        run_until(lambda: len(lives.lost) == 2)
        assert "killed by SIGKILL, as it did not check in within 3.0 s" in str(
            group.workers[0].error
        )


def test_one_that_cannot_be_started_again_is_lost_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = Lives()
    with group_of(lives, OBEY, restart=Restart(max_restarts=2, backoff=0.0)) as group:
        monkeypatch.setattr("sys.executable", "/no/python")
        os.kill(group.workers[0].pid or 0, signal.SIGKILL)
        run_with_timers_until(lambda: len(lives.lost) == 3)
        assert "could not be started" in str(group.workers[0].error)
        assert group.workers[0].restarts == 2


def test_a_stop_cancels_what_is_planned() -> None:
    lives = Lives()
    restart = Restart(backoff=1000.0, max_backoff=1000.0)
    with group_of(lives, OBEY, restart=restart) as group:
        os.kill(group.workers[0].pid or 0, signal.SIGKILL)
        run_until(lambda: lives.lost)
        assert repr(group.workers[0]) == "<Worker 'worker-0' restarting>"
    assert not group.workers[0].is_restarting
    assert lives.restarted == []


def test_a_stop_ends_a_worker_that_is_on_its_way() -> None:
    lives = Lives()
    with group_of(lives, OBEY, restart=Restart(backoff=0.0)) as group:
        worker = group.workers[0]
        pid = worker.pid
        os.kill(pid or 0, signal.SIGKILL)
        run_with_timers_until(lambda: worker.pid not in {pid, None})
    assert not Path(f"/proc/{worker.pid}").exists()


# Threads.


def test_a_thread_is_replaced_too() -> None:
    lives = Lives()
    ran: list[str] = []

    def target(session: Session) -> None:
        ran.append(session.name)
        if len(ran) == 1:
            session.main.send(b"last")
            raise LookupError("broken")
        echo(session)

    with group_of(lives, target, over="mach") as group:
        run_until(lambda: lives.restarted)
        assert lives.all == [("worker-0", b"last"), ("worker-0", None)]
        assert group.workers[0].port.request(b"x").data == b"x"
        assert group.workers[0].pid is None


def test_a_thread_that_returned_is_replaced_too() -> None:
    lives = Lives()
    with group_of(
        lives, lambda session: session.check_in(), over="mach", restart=Restart(backoff=0.0)
    ) as group:
        run_until(lambda: len(lives.lost) == 4)
        assert group.workers[0].error is None
        assert not group.workers[0].is_restarting


def test_a_thread_that_is_late_is_reported_and_welcome(reports: Reports) -> None:
    lives = Lives()
    late = Event()
    ran: list[str] = []

    def target(session: Session) -> None:
        ran.append(session.name)
        if len(ran) == 1:
            session.check_in()
            return
        assert late.wait(PATIENCE)
        echo(session)

    with group_of(lives, target, over="mach", check_in_timeout=0.3, restart=SOON) as group:
        run_with_timers_until(lambda: reports.records)
        late.set()
        run_until(lambda: lives.restarted)
        assert group.workers[0].port.request(b"x").data == b"x"
    (error,) = reports.take()
    assert str(error) == "worker-0 did not check in within 0.3 s"


def test_a_handler_that_raises_is_reported(reports: Reports) -> None:
    lives = Lives()
    ran: list[str] = []

    def target(session: Session) -> None:
        ran.append(session.name)
        session.check_in()
        if len(ran) > 1:
            session.run()

    def on_worker_restarted(worker: Worker) -> None:
        raise LookupError("handler")

    with group_of(lives, target, over="mach", on_worker_restarted=on_worker_restarted) as group:
        run_until(lambda: reports.records)
        assert group.workers[0].is_alive
    assert [type(error) for error in reports.take()] == [LookupError]
