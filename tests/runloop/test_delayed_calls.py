"""Calls after a delay (T4)."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from portkit import COMMON_MODES, DEFAULT_MODE, RunLoop, RunResult, Timer
from portkit.clock import ManualClock
from tests.support import LoopThread, run_on_thread

pytestmark = pytest.mark.own_thread


def test_t4_a_one_shot_timer_in_the_mode(clock: ManualClock) -> None:
    loop = RunLoop.current()
    ran: list[tuple[object, ...]] = []
    timer = loop.call_later(2.0, lambda *args: ran.append((clock.now(), *args)), 1, 2)
    assert isinstance(timer, Timer)
    assert loop.contains_timer(timer, DEFAULT_MODE)
    assert timer.next_fire_date == 1002.0
    assert loop.run() is RunResult.FINISHED
    assert ran == [(1002.0, 1, 2)]
    assert not timer.is_valid


def test_only_in_its_mode(clock: ManualClock) -> None:
    loop = RunLoop.current()
    ran: list[int] = []
    loop.add_common_mode("common too")
    loop.call_later(1.0, ran.append, 1, mode="m")
    loop.call_later(1.0, ran.append, 2, mode=COMMON_MODES)
    loop.run_in_mode("common too", 5.0)
    assert ran == [2]
    loop.run_in_mode("m", 5.0)
    assert ran == [2, 1]


def test_the_timer_withdraws_the_call(clock: ManualClock) -> None:
    loop = RunLoop.current()
    timer = loop.call_later(1.0, pytest.fail)
    timer.invalidate()
    assert loop.run() is RunResult.FINISHED


def test_the_timer_can_be_moved(clock: ManualClock) -> None:
    loop = RunLoop.current()
    dates: list[float] = []
    loop.call_later(1.0, lambda: dates.append(clock.now())).next_fire_date = 1004.0
    loop.run()
    assert dates == [1004.0]


def test_t4_cancel_by_function(clock: ManualClock) -> None:
    loop = RunLoop.current()
    ran: list[str] = []

    class Target:
        def call(self, what: str) -> None:
            ran.append(what)

    target, another = Target(), Target()
    for fn, what in [
        (target.call, "a"),
        (another.call, "b"),
        (target.call, "c"),
        (ran.append, "d"),
    ]:
        loop.call_later(1.0, fn, what)
    loop.call_later(1.0, target.call, "e", mode="m")
    loop.cancel_calls(target.call)  # another bound method object, but equal
    loop.run()
    assert loop.run_in_mode("m", 5.0) is RunResult.FINISHED
    assert ran == ["b", "d"]


def test_t4_cancel_all_leaves_other_timers(clock: ManualClock) -> None:
    loop = RunLoop.current()
    fired: list[Timer] = []
    Timer.scheduled(1.0, fired.append)
    for mode in (DEFAULT_MODE, COMMON_MODES, "m"):
        loop.call_later(1.0, pytest.fail, mode=mode)
    loop.cancel_calls()
    loop.cancel_calls()
    loop.run()
    assert len(fired) == 1
    assert loop.run_in_mode("m", 5.0) is RunResult.FINISHED


def test_cancelling_in_a_call(clock: ManualClock) -> None:
    loop = RunLoop.current()
    loop.call_later(1.0, loop.cancel_calls)
    loop.call_later(1.0, pytest.fail)
    assert loop.run() is RunResult.FINISHED


def test_from_another_thread(clock: ManualClock) -> None:
    loop = RunLoop.current()
    ran: list[int] = []
    run_on_thread(lambda: loop.call_later(1.0, ran.append, 1))
    run_on_thread(lambda: loop.call_later(1.0, pytest.fail))
    run_on_thread(lambda: loop.cancel_calls(pytest.fail))
    loop.run()
    assert ran == [1]


def test_each_loop_has_its_own(clock: ManualClock) -> None:
    with LoopThread() as other:
        timer = other.loop.call_later(1000.0, int, mode="never run")
        RunLoop.current().cancel_calls()
        assert timer.is_valid
        other.loop.cancel_calls(int)
        assert not timer.is_valid


def test_the_loop_forgets_calls_that_were_made_or_taken_out(clock: ManualClock) -> None:
    loop = RunLoop.current()
    loop.call_later(0.0, int)
    loop.run()
    loop.call_later(1.0, int).invalidate()
    loop.remove_timer(loop.call_later(1.0, int))
    for wrong in ("", 3):
        with pytest.raises((TypeError, ValueError)):
            loop.call_later(1.0, int, mode=wrong)  # type: ignore[arg-type]
    assert loop._delayed == {}


@pytest.mark.parametrize(
    ("delay", "fn", "error"),
    [
        (math.nan, int, ValueError),
        ("1", int, TypeError),
        (True, int, TypeError),
        (1.0, None, TypeError),
        (1.0, "int", TypeError),
    ],
)
def test_bad_input(delay: float, fn: Callable[[], object], error: type[Exception]) -> None:
    loop = RunLoop.current()
    with pytest.raises(error):
        loop.call_later(delay, fn)
    assert loop.run() is RunResult.FINISHED
