"""Running a mode: results and their precedence, the order of a pass, nesting (R1-R15, R59-R64)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread, current_thread

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    LoopEndedError,
    Observer,
    RunLoop,
    RunResult,
    Timer,
    WrongThreadError,
)
from portkit.clock import ManualClock, use
from portkit.runloop.constants import LONGEST_TIMEOUT
from tests.support import LoopThread, keep_alive, run_on_thread

pytestmark = pytest.mark.own_thread


def log_activities(loop: RunLoop, log: list[str], mode: str = DEFAULT_MODE) -> Observer:
    def note(observer: Observer, activity: Activity) -> None:
        assert activity.name is not None
        log.append(activity.name)

    observer = Observer(note)
    loop.add_observer(observer, mode)
    return observer


def signalled(loop: RunLoop, perform: Callable[[], object]) -> InputSource:
    source = InputSource(lambda source: perform())
    loop.add_source(source)
    source.signal(wake=False)
    return source


@contextmanager
def readable() -> Iterator[int]:
    """A descriptor that is readable while the ``with`` lasts."""
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"x")
    try:
        yield read_fd
    finally:
        os.close(read_fd)
        os.close(write_fd)


class TestEmptyModes:
    @pytest.mark.parametrize("timeout", [None, 0, 5.0])
    @pytest.mark.parametrize("mode", [DEFAULT_MODE, "unheard of"])
    def test_r1_an_empty_mode_is_finished_without_a_pass(
        self, mode: str, timeout: float | None
    ) -> None:
        loop = RunLoop.current()
        log: list[str] = []
        log_activities(loop, log, mode)  # observers alone keep no mode alive (R2)
        assert loop.run_in_mode(mode, timeout) is RunResult.FINISHED
        assert log == []

    def test_r1_an_empty_run_leaves_a_pending_wake_up_pending(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        loop.wake_up()
        assert loop.run() is RunResult.FINISHED
        log: list[str] = []
        log_activities(loop, log)
        Timer.scheduled(1.0, lambda timer: None)
        loop.run()
        assert log.count("AFTER_WAITING") == 2  # one for the wake-up, one for the timer

    @pytest.mark.parametrize(
        ("add", "result"),
        [
            (lambda loop: None, RunResult.FINISHED),
            (lambda loop: loop.add_observer(Observer(lambda o, a: None)), RunResult.FINISHED),
            (lambda loop: loop.executor().submit(int) and None, RunResult.FINISHED),
            (lambda loop: loop.add_timer(Timer(9.0, lambda timer: None)), RunResult.TIMED_OUT),
            (keep_alive, RunResult.TIMED_OUT),
            (lambda loop: keep_alive(loop, COMMON_MODES), RunResult.TIMED_OUT),
            (lambda loop: keep_alive(loop, "other"), RunResult.FINISHED),
        ],
        ids=["nothing", "observer", "block", "timer", "source", "common", "other"],
    )
    def test_r2_what_keeps_a_mode_alive(
        self, add: Callable[[RunLoop], object], result: RunResult
    ) -> None:
        loop = RunLoop.current()
        add(loop)
        assert loop.run_in_mode(DEFAULT_MODE, 0) is result

    def test_r2_a_descriptor_source_keeps_a_mode_alive(self) -> None:
        read_fd, write_fd = os.pipe()
        RunLoop.current().add_source(DescriptorSource(read_fd, lambda source, ready: None))
        assert RunLoop.current().run_in_mode(DEFAULT_MODE, 0) is RunResult.TIMED_OUT
        os.close(read_fd)
        os.close(write_fd)

    def test_r13_a_mode_of_blocks_alone_runs_them_and_is_finished(self) -> None:
        """Design 4: the pass polls instead of sleeping until the deadline, as CF would."""
        loop = RunLoop.current()
        for timeout in (None, 1000.0, 0):
            ran: list[float | None] = []
            loop.perform(ran.append, timeout, wake=False)
            assert loop.run_in_mode(DEFAULT_MODE, timeout) is RunResult.FINISHED
            assert ran == [timeout]

    def test_r13_a_block_of_a_block_in_an_empty_mode_does_not_make_it_sleep(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        loop.perform(lambda: loop.perform(ran.append, 1, wake=False), wake=False)
        assert loop.run() is RunResult.FINISHED
        assert ran == [1]

    def test_r13_an_emptied_mode_does_not_wait(self) -> None:
        loop = RunLoop.current()
        log: list[str] = []
        log_activities(loop, log)
        loop.perform(int)
        loop.run()
        assert log == ["ENTRY", "BEFORE_TIMERS", "BEFORE_SOURCES", "EXIT"]

    @pytest.mark.parametrize("timeout", [None, 0])
    def test_r13_a_source_that_empties_the_mode_finishes_it(self, timeout: float | None) -> None:
        loop = RunLoop.current()
        source = InputSource(lambda source: source.invalidate())
        loop.add_source(source)
        source.signal()
        assert loop.run_in_mode(DEFAULT_MODE, timeout) is RunResult.FINISHED

    def test_r2_a_block_keeps_only_its_modes_alive(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        loop.perform(ran.append, 1, modes="other", wake=False)
        assert loop.run_in_mode(DEFAULT_MODE, None) is RunResult.FINISHED
        assert ran == []
        assert loop.run_in_mode("other", None) is RunResult.FINISHED
        assert ran == [1]


class TestOneRun:
    def test_r3_common_modes_cannot_be_run(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop, COMMON_MODES)
        for run in (loop.run_in_mode, loop.run_mode, loop.accept_input):
            with pytest.raises(ValueError, match="cannot be run"):
                run(COMMON_MODES, 0)
        with pytest.raises(ValueError, match="cannot be run"):
            loop.limit_date(COMMON_MODES)

    def test_r4_entry_and_exit_enclose_the_passes(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        log: list[str] = []
        log_activities(loop, log)
        assert loop.run_in_mode(DEFAULT_MODE, 0) is RunResult.TIMED_OUT
        assert log == ["ENTRY", "BEFORE_TIMERS", "BEFORE_SOURCES", "EXIT"]

    def test_r4_r64_current_mode_is_the_innermost_runs_and_none_when_idle(self) -> None:
        loop = RunLoop.current()
        seen: list[str | None] = [loop.current_mode]

        def inner() -> None:
            seen.append(loop.current_mode)
            loop.perform(lambda: seen.append(loop.current_mode), modes="inner")
            loop.run_in_mode("inner", 0)
            seen.append(loop.current_mode)

        loop.perform(inner)
        loop.run()
        assert [*seen, loop.current_mode] == [None, "default", "inner", "default", None]

    def test_r4_entry_and_exit_observers_see_the_mode(self) -> None:
        loop = RunLoop.current()
        seen: list[str | None] = []
        observer = Observer(
            lambda o, a: seen.append(loop.current_mode), Activity.ENTRY | Activity.EXIT
        )
        loop.add_observer(observer, "m")
        keep_alive(loop, "m")
        loop.run_in_mode("m", 0)
        assert seen == ["m", "m"]

    def test_r6_run_goes_on_until_stopped(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        fired: list[float] = []

        def fire(timer: Timer) -> None:
            fired.append(clock.now())
            if len(fired) == 3:
                loop.stop()

        Timer.scheduled(1.0, fire, repeats=True)
        assert loop.run() is RunResult.STOPPED
        assert fired == [1001.0, 1002.0, 1003.0]

    def test_r6_run_ends_when_the_mode_is_empty(self, clock: ManualClock) -> None:
        Timer.scheduled(1.0, lambda timer: None)
        assert RunLoop.current().run() is RunResult.FINISHED

    def test_r60_run_with_a_time_out(self, clock: ManualClock) -> None:
        keep_alive(RunLoop.current())
        assert RunLoop.current().run(7.5) is RunResult.TIMED_OUT
        assert clock.now() == 1007.5

    def test_r60_a_time_out_in_the_past_still_fires_what_is_due(self) -> None:
        fired: list[Timer] = []
        Timer.scheduled(0.0, fired.append)
        RunLoop.current().run(-1.0)
        assert len(fired) == 1

    @pytest.mark.parametrize("timeout", [0, -1, -math.inf, 0.0])
    def test_r9_no_time_means_one_pass_without_waiting(self, timeout: float) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        log: list[str] = []
        log_activities(loop, log)
        assert loop.run_in_mode(DEFAULT_MODE, timeout) is RunResult.TIMED_OUT
        assert log.count("BEFORE_TIMERS") == 1
        assert "BEFORE_WAITING" not in log
        assert "AFTER_WAITING" not in log

    def test_r9_one_pass_handles_a_source(self) -> None:
        loop = RunLoop.current()
        signalled(loop, int)
        run = loop.run_in_mode(DEFAULT_MODE, 0, return_after_source_handled=True)
        assert run is RunResult.HANDLED_SOURCE

    def test_r9_a_mode_not_empty_on_entry_times_out_at_a_poll(self) -> None:
        """A timer fires after the wait (R7): the mode was not empty before it."""
        Timer.scheduled(0.0, lambda timer: None)
        assert RunLoop.current().run_in_mode(DEFAULT_MODE, 0) is RunResult.TIMED_OUT

    @pytest.mark.parametrize(
        ("timeout", "result"),
        [
            (LONGEST_TIMEOUT, RunResult.TIMED_OUT),
            (LONGEST_TIMEOUT + 1, RunResult.FINISHED),
            (math.inf, RunResult.FINISHED),
            (None, RunResult.FINISHED),
        ],
    )
    def test_r10_sixteen_years_are_for_ever(
        self, clock: ManualClock, timeout: float | None, result: RunResult
    ) -> None:
        Timer.scheduled(2 * LONGEST_TIMEOUT, lambda timer: None)
        assert RunLoop.current().run_in_mode(DEFAULT_MODE, timeout) is result

    def test_modes_hold_their_own_items(self) -> None:
        loop = RunLoop.current()
        ran: list[str] = []
        for mode in ("a", "b"):
            source = InputSource(lambda source, mode=mode: ran.append(mode))  # type: ignore[misc]
            loop.add_source(source, mode)
            source.signal()
        loop.run_in_mode("b", 0)
        assert ran == ["b"]
        loop.run_in_mode("a", 0)
        assert ran == ["b", "a"]
        assert set(loop.modes) >= {DEFAULT_MODE, "a", "b"}

    def test_is_waiting_only_while_it_sleeps(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        seen: list[bool] = [loop.is_waiting]
        loop.add_observer(Observer(lambda o, a: seen.append(loop.is_waiting)))
        Timer.scheduled(1.0, lambda timer: seen.append(loop.is_waiting))
        loop.run()
        assert not any([*seen, loop.is_waiting])


class TestPasses:
    def test_1_3_the_order_of_a_pass(self) -> None:
        """R7: sources before the wait, timers after it. R15. R11: after a source it polls."""
        loop = RunLoop.current()
        log: list[str] = []
        log_activities(loop, log)

        def note(what: str) -> None:
            log.append(what)
            loop.perform(log.append, f"block of {what}", wake=False)

        with readable() as fd:
            descriptor = DescriptorSource(fd, lambda source, ready: note("descriptor"))
            loop.add_source(descriptor)
            Timer.scheduled(0.0, lambda timer: note("timer"))
            signalled(loop, lambda: note("source"))
            loop.perform(note, "block", wake=False)
            loop.run_in_mode(DEFAULT_MODE, 0)
            descriptor.invalidate()
        assert log == [
            "ENTRY",
            "BEFORE_TIMERS",
            "BEFORE_SOURCES",
            "block",
            "source",
            "block of block",
            "block of source",
            "timer",
            "descriptor",
            "block of timer",
            "block of descriptor",
            "EXIT",
        ]

    def test_1_3_the_observers_of_a_pass_that_waits(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        log: list[str] = []
        log_activities(loop, log)
        Timer.scheduled(1.0, lambda timer: log.append("timer"))
        assert loop.run() is RunResult.FINISHED
        before = ["BEFORE_TIMERS", "BEFORE_SOURCES", "BEFORE_WAITING"]
        assert log == ["ENTRY", *before, "AFTER_WAITING", "timer", "EXIT"]

    @pytest.mark.parametrize("what", ["timer", "block"])
    def test_r8_timers_and_blocks_are_not_sources(self, clock: ManualClock, what: str) -> None:
        loop = RunLoop.current()
        ran: list[str] = []
        keep_alive(loop)
        if what == "timer":
            Timer.scheduled(1.0, lambda timer: ran.append(what), repeats=True)
        else:
            loop.perform(ran.append, what)
        run = loop.run_in_mode(DEFAULT_MODE, 3.5, return_after_source_handled=True)
        assert run is RunResult.TIMED_OUT
        assert len(ran) == (3 if what == "timer" else 1)

    @pytest.mark.parametrize("kind", ["source", "descriptor"])
    def test_r8_sources_end_a_run_that_asks_for_it(self, kind: str) -> None:
        loop = RunLoop.current()
        ran: list[str] = []
        with readable() as fd:
            if kind == "source":
                signalled(loop, lambda: ran.append(kind))
            else:
                loop.add_source(DescriptorSource(fd, lambda source, ready: ran.append(kind)))
            run = loop.run_in_mode(DEFAULT_MODE, None, return_after_source_handled=True)
            assert run is RunResult.HANDLED_SOURCE
            assert ran == [kind]

    def test_r11_a_pass_with_a_source_still_serves_what_is_ready(self) -> None:
        loop = RunLoop.current()
        log: list[str] = []
        log_activities(loop, log)
        with readable() as fd:
            loop.add_source(DescriptorSource(fd, lambda source, ready: log.append("descriptor")))
            signalled(loop, lambda: log.append("source"))
            run = loop.run_in_mode(DEFAULT_MODE, 5.0, return_after_source_handled=True)
        assert run is RunResult.HANDLED_SOURCE
        assert log[3:] == ["source", "descriptor", "EXIT"]

    @pytest.mark.parametrize(
        ("handled", "late", "stopped", "result"),
        [
            (True, True, True, RunResult.HANDLED_SOURCE),
            (False, True, True, RunResult.TIMED_OUT),
            (False, False, True, RunResult.STOPPED),
            (False, False, False, RunResult.FINISHED),
        ],
    )
    @pytest.mark.parametrize("before_the_wait", [True, False])
    def test_r12_precedence(
        self,
        before_the_wait: bool,
        handled: bool,
        late: bool,
        stopped: bool,
        result: RunResult,
    ) -> None:
        loop = RunLoop.current()
        clock = ManualClock()

        def act(source: InputSource | DescriptorSource) -> None:
            if late:
                clock.advance(20.0)
            if stopped:
                loop.stop()
            source.invalidate()  # so the mode is empty

        with readable() as fd, use(clock):
            if before_the_wait:
                source = InputSource(act)
                loop.add_source(source)
                source.signal()
            else:
                loop.add_source(DescriptorSource(fd, lambda source, ready: act(source)))
            run = loop.run_in_mode(DEFAULT_MODE, 10.0, return_after_source_handled=handled)
        assert run is result

    def test_r14_a_signal_before_waiting_without_a_wake_up_is_not_seen(
        self, clock: ManualClock
    ) -> None:
        """And with one it makes the pass after."""
        loop = RunLoop.current()
        for wake in (False, True):
            ran: list[float] = []
            source = InputSource(lambda source, ran=ran: ran.append(clock.now()))  # type: ignore[misc]
            loop.add_source(source)
            signal = Observer(
                lambda o, a, source=source, wake=wake: source.signal(wake=wake),  # type: ignore[misc]
                Activity.BEFORE_WAITING,
                repeats=False,
            )
            loop.add_observer(signal)
            start = clock.now()
            Timer.scheduled(5.0, lambda timer: None)
            loop.run_in_mode(DEFAULT_MODE, 10.0)
            assert ran == [start if wake else start + 5.0]
            source.invalidate()


class TestFoundationsCalls:
    def test_r59_run_mode_is_false_for_an_empty_mode(self) -> None:
        assert RunLoop.current().run_mode(DEFAULT_MODE, 5.0) is False

    def test_r59_run_mode_is_true_whatever_the_result(self, clock: ManualClock) -> None:
        """A timer does not end it, and the run after its last one is False."""
        loop = RunLoop.current()
        Timer.scheduled(1.0, lambda timer: None)
        assert loop.run_mode(DEFAULT_MODE, 5.0) is True
        assert loop.run_mode(DEFAULT_MODE, 5.0) is False

    def test_r59_a_source_ends_run_mode(self) -> None:
        loop = RunLoop.current()
        signalled(loop, int)
        assert loop.run_mode(DEFAULT_MODE, None) is True

    def test_a_performed_call_ends_run_mode(self) -> None:
        """Design 4: so that ``while not done: run_mode(…)`` sees what the call did."""
        loop = RunLoop.current()
        keep_alive(loop)
        for wake in (True, False):
            done: list[int] = []
            loop.perform(done.append, 1, wake=wake)
            while not done:
                assert loop.run_mode(DEFAULT_MODE, None)

    def test_a_call_performed_from_another_thread_ends_run_mode(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        done: list[int] = []
        with LoopThread() as other:
            other.loop.perform(loop.perform, done.append, 1)
            while not done:
                assert loop.run_mode(DEFAULT_MODE, None)

    def test_r61_limit_date(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        assert loop.limit_date("m") is None
        keep_alive(loop, "m")
        assert loop.limit_date("m") == math.inf
        loop.add_timer(Timer(4.0, lambda timer: None), "m")
        assert loop.limit_date("m") == 1004.0

    def test_r61_limit_date_fires_due_timers(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        fired: list[Timer] = []
        loop.add_timer(Timer(0.0, fired.append))
        assert loop.limit_date(DEFAULT_MODE) is None
        assert len(fired) == 1

    def test_r62_accept_input_returns_after_one_source(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        fired: list[Timer] = []
        Timer.scheduled(1.0, fired.append, repeats=True)
        source = InputSource(lambda source: None)
        loop.add_source(source)
        loop.call_later(3.5, source.signal)
        assert loop.accept_input(DEFAULT_MODE, 10.0) is RunResult.HANDLED_SOURCE
        assert len(fired) == 3
        assert loop.accept_input(DEFAULT_MODE, 2.0) is RunResult.TIMED_OUT


class TestBadInput:
    @pytest.mark.parametrize("mode", [None, 3, b"default", ["default"]])
    def test_a_mode_is_a_str(self, mode: object) -> None:
        loop = RunLoop.current()
        for call in (
            lambda: loop.run_in_mode(mode, 0),  # type: ignore[arg-type]
            lambda: loop.run_mode(mode, 0),  # type: ignore[arg-type]
            lambda: loop.limit_date(mode),  # type: ignore[arg-type]
            lambda: loop.next_timer_fire_date(mode),  # type: ignore[arg-type]
            lambda: loop.add_common_mode(mode),  # type: ignore[arg-type]
            lambda: keep_alive(loop, mode),  # type: ignore[arg-type]
            lambda: loop.contains_source(InputSource(int), mode),  # type: ignore[arg-type]
        ):
            with pytest.raises(TypeError, match="mode"):
                call()

    def test_a_mode_has_a_name(self) -> None:
        with pytest.raises(ValueError, match="DEFAULT_MODE"):
            RunLoop.current().run_in_mode("", 0)

    @pytest.mark.parametrize(
        ("timeout", "error"),
        [("1", TypeError), (True, TypeError), ([], TypeError), (math.nan, ValueError)],
    )
    def test_a_time_out_is_a_number(self, timeout: float, error: type[Exception]) -> None:
        loop = RunLoop.current()
        for run in (loop.run_in_mode, loop.run_mode, loop.accept_input):
            with pytest.raises(error, match="time-out"):
                run(DEFAULT_MODE, timeout)

    @pytest.mark.parametrize(
        ("limit", "error"),
        [(0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError), (None, TypeError)],
    )
    def test_a_batch_holds_something(self, limit: int, error: type[Exception]) -> None:
        """With none the loop would run round and deliver nothing."""
        loop = RunLoop.current()
        with pytest.raises(error, match="batch_limit"):
            loop.batch_limit = limit
        assert loop.batch_limit == 64

    def test_another_thread_cannot_run_it_and_is_told_both_names(self) -> None:
        loop = RunLoop.current()

        def run_elsewhere() -> None:
            for run in (
                lambda: loop.run(0),
                lambda: loop.run_in_mode(DEFAULT_MODE, 0),
                lambda: loop.run_mode(DEFAULT_MODE, 0),
                lambda: loop.accept_input(DEFAULT_MODE, 0),
                lambda: loop.limit_date(DEFAULT_MODE),
            ):
                with pytest.raises(WrongThreadError, match=r"'elsewhere'.*'here'"):
                    run()

        current_thread().name = "here"
        failures: list[BaseException] = []

        def body() -> None:
            try:
                run_elsewhere()
            except BaseException as error:
                failures.append(error)

        thread = Thread(target=body, name="elsewhere")
        thread.start()
        thread.join()
        assert failures == []

    def test_an_ended_loop_cannot_be_run(self) -> None:
        loop = run_on_thread(RunLoop.current)
        with pytest.raises(LoopEndedError, match="ended"):
            loop.run(0)
