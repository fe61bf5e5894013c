"""Stopping and waking, with and without nesting (R16-R22). No wake-up is lost."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import pytest

from portkit import (
    DEFAULT_MODE,
    Activity,
    InputSource,
    Observer,
    RunLoop,
    RunResult,
    Timer,
)
from portkit.clock import ManualClock
from tests.support import PATIENCE, LoopThread, eventually, keep_alive

pytestmark = pytest.mark.own_thread

PLACES = [
    "entry",
    "before timers",
    "before sources",
    "before waiting",
    "after waiting",
    "timer",
    "block",
    "late block",
    "source",
]
"""Where in a pass something can be made to happen."""

ACTIVITIES = {
    "entry": Activity.ENTRY,
    "before timers": Activity.BEFORE_TIMERS,
    "before sources": Activity.BEFORE_SOURCES,
    "before waiting": Activity.BEFORE_WAITING,
    "after waiting": Activity.AFTER_WAITING,
}


def do_at(loop: RunLoop, place: str, mode: str, act: Callable[[], object]) -> None:
    """Have ``act`` called once, at that place of the first pass in ``mode`` that has it."""
    if place in ACTIVITIES:
        loop.add_observer(Observer(lambda o, a: act(), ACTIVITIES[place], repeats=False), mode)
    elif place == "timer":
        loop.call_later(0.0, act, mode=mode)
    elif place == "block":
        loop.perform(act, modes=mode, wake=False)
    elif place == "late block":  # at step 12, after the wait
        loop.call_later(0.0, loop.perform, act, mode=mode)
    else:
        source = InputSource(lambda source: act())
        loop.add_source(source, mode)
        source.signal(wake=False)


class TestStop:
    def test_r16_stopping_an_idle_loop_does_not_poison_its_next_run(
        self, clock: ManualClock
    ) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        loop.stop()
        assert loop.run(2.0) is RunResult.TIMED_OUT
        assert clock.now() == 1002.0

    def test_r16_the_way_to_stop_a_loop_that_may_not_run_yet(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        loop.perform(loop.stop)
        assert loop.run() is RunResult.STOPPED

    @pytest.mark.parametrize("place", PLACES)
    def test_a_stop_at_any_place_ends_the_run_in_that_pass(
        self, clock: ManualClock, place: str
    ) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        do_at(loop, place, DEFAULT_MODE, loop.stop)
        Timer.scheduled(1.0, lambda timer: None)  # ends the first pass's sleep, if it does sleep
        passes: list[Activity] = []
        loop.add_observer(Observer(lambda o, a: passes.append(a), Activity.BEFORE_TIMERS))
        assert loop.run() is RunResult.STOPPED
        assert len(passes) == (0 if place == "entry" else 1)

    def test_r17_a_stop_ends_only_the_innermost_run(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        keep_alive(loop, "inner")
        results: list[RunResult] = []

        def inner() -> None:
            loop.perform(loop.stop, modes="inner")
            results.append(loop.run_in_mode("inner", None))
            loop.perform(results.append, RunResult.FINISHED)
            loop.perform(loop.stop)

        loop.perform(inner)
        results.append(loop.run())
        assert results == [RunResult.STOPPED, RunResult.FINISHED, RunResult.STOPPED]

    def test_r17_n_levels_take_n_stops(self) -> None:
        loop = RunLoop.current()
        depth = 5
        ended: list[int] = []

        def nest(level: int) -> None:
            mode = f"level {level}"
            keep_alive(loop, mode)
            if level < depth:
                loop.perform(nest, level + 1, modes=mode)
            else:
                loop.perform(loop.stop, modes=mode)
            assert loop.run_in_mode(mode, None) is RunResult.STOPPED
            ended.append(level)
            loop.stop()

        nest(1)
        assert ended == [5, 4, 3, 2, 1]

    def test_r17_from_another_thread_a_stop_wakes_the_loop(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop)

        def stop_when_it_sleeps() -> None:
            assert eventually(lambda: loop.is_waiting)
            loop.stop()

        thread = Thread(target=stop_when_it_sleeps)
        thread.start()
        assert loop.run() is RunResult.STOPPED
        thread.join()

    def test_r18_a_stop_in_an_entry_observer_means_no_pass(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        log: list[Activity] = []
        loop.add_observer(Observer(lambda o, a: log.append(a)))
        loop.add_observer(Observer(lambda o, a: loop.stop(), Activity.ENTRY))
        assert loop.run() is RunResult.STOPPED
        assert log == [Activity.ENTRY, Activity.EXIT]

    def test_r18_a_stop_in_an_exit_observer_is_lost(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        keep_alive(loop, "inner")
        loop.add_observer(Observer(lambda o, a: loop.stop(), Activity.EXIT), "inner")
        loop.perform(loop.run_in_mode, "inner", 0)
        assert loop.run(3.0) is RunResult.TIMED_OUT
        assert clock.now() == 1003.0

    def test_r18_a_stop_beside_a_handled_source_evaporates(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        source = InputSource(lambda source: loop.stop())
        loop.add_source(source)
        source.signal()
        run = loop.run_in_mode(DEFAULT_MODE, None, return_after_source_handled=True)
        assert run is RunResult.HANDLED_SOURCE
        assert loop.run(3.0) is RunResult.TIMED_OUT


class TestWakeUp:
    def passes(self, loop: RunLoop) -> list[Activity]:
        log: list[Activity] = []
        loop.add_observer(Observer(lambda o, a: log.append(a), Activity.BEFORE_SOURCES))
        return log

    @pytest.mark.parametrize(("wakes", "extra"), [(0, 0), (1, 1), (5, 1)])
    def test_r20_wake_ups_while_idle_are_retained_and_coalesced(
        self, clock: ManualClock, wakes: int, extra: int
    ) -> None:
        loop = RunLoop.current()
        passes = self.passes(loop)
        Timer.scheduled(1.0, lambda timer: None)
        for _ in range(wakes):
            loop.wake_up()
        assert loop.run() is RunResult.FINISHED
        assert len(passes) == 1 + extra

    def test_r20_a_wake_up_makes_a_sleeping_loop_pass(self) -> None:
        with LoopThread() as other:
            passed = Event()
            assert eventually(lambda: other.loop.is_waiting)
            other.loop.add_observer(Observer(lambda o, a: passed.set(), Activity.AFTER_WAITING))
            other.loop.wake_up()
            assert passed.wait(PATIENCE)

    def test_r21_a_wake_up_while_ignoring_makes_no_extra_pass(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        passes = self.passes(loop)
        do_at(loop, "after waiting", DEFAULT_MODE, loop.wake_up)
        Timer.scheduled(1.0, lambda timer: None)
        Timer.scheduled(2.0, lambda timer: None)
        loop.run()
        assert len(passes) == 2

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("what", ["signal", "perform"])
    def test_r21_what_is_asked_for_at_any_place_is_done_without_sleeping_first(
        self, clock: ManualClock, place: str, what: str
    ) -> None:
        loop = RunLoop.current()
        done: list[float] = []
        source = InputSource(lambda source: done.append(clock.now()))
        loop.add_source(source)
        asked: list[float] = []

        def ask() -> None:
            asked.append(clock.now())
            if what == "signal":
                source.signal()
            else:
                loop.perform(lambda: done.append(clock.now()))

        do_at(loop, place, DEFAULT_MODE, ask)
        Timer.scheduled(50.0, lambda timer: None)  # where the clock would jump to
        loop.run(100.0)
        assert len(asked) == 1
        assert done == asked

    @pytest.mark.parametrize("outer", PLACES)
    @pytest.mark.parametrize("inner", PLACES)
    @pytest.mark.parametrize("levels", [1, 3])
    def test_r22_a_nested_run_swallows_no_wake_up_of_the_outer_one(
        self, clock: ManualClock, outer: str, inner: str, levels: int
    ) -> None:
        """Read literally, R21 with R4 and R22 would: design 4 raises it again (no lost wake-up).

        At some place of the outer pass, nested runs of other modes are made; at some place of
        the innermost, work for the outermost is asked for.
        """
        loop = RunLoop.current()
        done: list[float] = []
        source = InputSource(lambda source: done.append(clock.now()))
        loop.add_source(source)
        asked: list[float] = []

        def ask() -> None:
            source.signal()
            asked.append(clock.now())

        def nest(level: int) -> None:
            mode = f"level {level}"
            keep_alive(loop, mode)
            if level == levels:
                do_at(loop, inner, mode, ask)
                # The wake-up must be taken by the nested run: it makes a pass after the asking.
                loop.run_in_mode(mode, 0.5)
            else:
                loop.perform(nest, level + 1, modes=mode)
                loop.run_in_mode(mode, 0)
            ended.append(clock.now())

        ended: list[float] = []
        do_at(loop, outer, DEFAULT_MODE, lambda: nest(1))
        Timer.scheduled(50.0, lambda timer: None)
        loop.run(100.0)
        assert len(asked) == 1
        assert done == [ended[-1]]

    def test_r22_a_wake_up_taken_by_a_nested_run_that_raised_is_not_lost(
        self, clock: ManualClock
    ) -> None:
        loop = RunLoop.current()
        done: list[float] = []
        source = InputSource(lambda source: done.append(clock.now()))
        loop.add_source(source)

        def give_up() -> None:
            raise KeyboardInterrupt

        def nest(observer: Observer, activity: Activity) -> None:
            keep_alive(loop, "inner")
            loop.perform(source.signal, modes="inner")
            loop.call_later(1.0, give_up, mode="inner")
            with pytest.raises(KeyboardInterrupt):
                loop.run_in_mode("inner", None)

        loop.add_observer(Observer(nest, Activity.BEFORE_WAITING, repeats=False))
        Timer.scheduled(50.0, lambda timer: None)
        loop.run(100.0)
        assert done == [1001.0]

    def test_r21_signals_from_another_thread_are_all_seen(self) -> None:
        """Each signal is sent once the one before was performed: one lost, and it hangs."""
        rounds = 2000
        performed = Event()
        with LoopThread() as other:
            source = InputSource(lambda source: performed.set())
            other.loop.add_source(source)
            for _ in range(rounds):
                performed.clear()
                source.signal()
                assert performed.wait(PATIENCE)
