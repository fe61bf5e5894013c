"""Performed calls: order over nesting, modes, waking, waiting for the result (R24-R27, T1-T3)."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Event, Thread, get_ident

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    LoopEndedError,
    Observer,
    ReceiveTimeoutError,
    RunLoop,
    RunResult,
    Timer,
)
from portkit.clock import ManualClock
from tests.support import PATIENCE, LoopThread, Reports, eventually, keep_alive, run_on_thread

pytestmark = pytest.mark.own_thread


class TestOrder:
    def test_r25_first_in_first_out(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        for n in range(100):
            loop.perform(ran.append, n)
        loop.run()
        assert ran == list(range(100))

    def test_r25_order_holds_across_modes_of_one_run(self) -> None:
        """Common, own and listed modes are one queue for the mode that is in all of them."""
        loop = RunLoop.current()
        ran: list[int] = []
        choices: list[str | list[str]] = [
            COMMON_MODES,
            DEFAULT_MODE,
            ["other", DEFAULT_MODE],
            [DEFAULT_MODE, COMMON_MODES],
        ]
        for n in range(40):
            loop.perform(ran.append, n, modes=choices[n % 4])
        loop.run()
        assert ran == list(range(40))

    def test_r25_what_does_not_match_keeps_its_place(self) -> None:
        loop = RunLoop.current()
        ran: list[str] = []
        for n in range(6):
            mode = "ab"[n % 2]
            loop.perform(ran.append, f"{mode}{n}", modes=mode)
        loop.run_in_mode("a", 0)
        assert ran == ["a0", "a2", "a4"]
        loop.perform(ran.append, "b6", modes="b")
        loop.run_in_mode("b", 0)
        assert ran == ["a0", "a2", "a4", "b1", "b3", "b5", "b6"]

    def test_r25_a_call_for_several_modes_is_made_once(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        loop.perform(ran.append, 1, modes=["a", "b", COMMON_MODES])
        for mode in ("b", "a", DEFAULT_MODE):
            loop.run_in_mode(mode, 0)
        assert ran == [1]

    def test_r25_what_is_performed_meanwhile_waits_for_the_next_drain(
        self, clock: ManualClock
    ) -> None:
        """A call that asks for itself again does not keep the loop from anything else."""
        loop = RunLoop.current()
        log: list[str] = []

        def again() -> None:
            log.append("block")
            if len(log) < 100:
                loop.perform(again)

        Timer.scheduled(0.0, lambda timer: log.append("timer"))
        loop.perform(again)
        loop.run()
        assert log[:3] == ["block", "timer", "block"]

    def test_r25_also_when_a_nested_run_of_another_mode_has_seen_it(
        self, clock: ManualClock
    ) -> None:
        loop = RunLoop.current()
        log: list[str] = []

        def again() -> None:
            log.append("block")
            if len(log) < 100:
                loop.perform(again)
            keep_alive(loop, "inner").invalidate()
            loop.perform(int, modes="inner")
            loop.run_in_mode("inner", 0)

        Timer.scheduled(0.0, lambda timer: log.append("timer"))
        loop.perform(again)
        loop.run()
        assert log[:3] == ["block", "timer", "block"]

    def test_r26_the_order_is_the_same_with_nesting(self) -> None:
        """Design 4: first in first out across nesting, not B1, B3, B2 as in CF."""
        loop = RunLoop.current()
        ran: list[str] = []

        def first() -> None:
            ran.append("1")
            loop.perform(ran.append, "3")
            loop.run_in_mode(DEFAULT_MODE, 0)
            ran.append("end of 1")

        loop.perform(first)
        loop.perform(ran.append, "2")
        loop.run()
        assert ran == ["1", "2", "3", "end of 1"]

    def test_r26_deep_nesting(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []

        def call(n: int) -> None:
            ran.append(n)
            if n % 3 == 0:
                loop.perform(call, n + 1000)
                loop.run_in_mode(DEFAULT_MODE, 0)

        for n in range(1, 31):
            loop.perform(call, n)
        loop.run()
        expected = [*range(1, 31), *(n + 1000 for n in range(3, 31, 3))]
        again = [n + 1000 for n in expected if n > 1000 and n % 3 == 0]
        assert ran == expected + again

    def test_r26_a_nested_run_of_another_mode_leaves_the_rest_in_order(self) -> None:
        loop = RunLoop.current()
        ran: list[str] = []

        def first() -> None:
            loop.perform(ran.append, "inner", modes="inner")
            loop.run_in_mode("inner", 0)

        loop.perform(first)
        loop.perform(ran.append, "2")
        loop.perform(ran.append, "3")
        loop.run()
        assert ran == ["inner", "2", "3"]

    def test_r27_calls_are_made_without_a_lock(self) -> None:
        """From inside one, another thread can do anything to the loop."""
        loop = RunLoop.current()

        def elsewhere() -> None:
            keep_alive(loop).invalidate()
            loop.perform(int)
            loop.describe()

        def call() -> None:
            run_on_thread(elsewhere, timeout=5.0)

        loop.perform(call)
        loop.run()

    def test_r27_what_a_call_holds_is_released_once_it_was_made(self) -> None:
        class Payload:
            pass

        loop = RunLoop.current()
        payload = Payload()
        gone = weakref.ref(payload)
        loop.perform(lambda payload: None, payload, modes=["x", DEFAULT_MODE])
        del payload
        loop.run()
        assert gone() is None

    def test_r24_calls_do_not_pile_up_in_a_mode_that_never_runs(self) -> None:
        """Each stands in two queues; one of them is never looked at."""
        loop = RunLoop.current()
        for _ in range(50):
            for _ in range(100):
                loop.perform(int, modes=[DEFAULT_MODE, "never run"])
            loop.run()
        assert len(loop._blocks.queues.get("never run", ())) < 2000


class TestWaking:
    def test_perform_wakes_a_sleeping_loop(self) -> None:
        with LoopThread() as other:
            assert eventually(lambda: other.loop.is_waiting)
            done = Event()
            other.loop.perform(done.set)
            assert done.wait(PATIENCE)

    def test_r24_without_wake_it_waits_for_the_next_pass(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        ran: list[float] = []
        loop.add_observer(
            Observer(
                lambda o, a: loop.perform(lambda: ran.append(clock.now()), wake=False),
                Activity.BEFORE_WAITING,
                repeats=False,
            )
        )
        Timer.scheduled(5.0, lambda timer: None)
        loop.run()
        assert ran == [1005.0]

    def test_r33_a_call_without_wake_is_made_when_the_last_item_goes(self) -> None:
        """The mode has only this call then, and nothing else would wake it (R13)."""
        loop = RunLoop.current()
        source = keep_alive(loop)
        ran: list[int] = []

        def empty() -> None:
            assert eventually(lambda: loop.is_waiting)
            loop.perform(ran.append, 1, wake=False)
            source.invalidate()

        thread = Thread(target=empty)
        thread.start()
        assert loop.run() is RunResult.FINISHED
        thread.join()
        assert ran == [1]


class TestPerformAndWait:
    def test_t1_on_its_own_thread_the_call_is_made_at_once(self) -> None:
        loop = RunLoop.current()
        assert loop.perform_and_wait(lambda a, b: (a, b), 1, 2) == (1, 2)
        with pytest.raises(ZeroDivisionError):
            loop.perform_and_wait(lambda: 1 / 0)

    def test_t2_the_result_comes_back(self) -> None:
        with LoopThread() as other:
            assert other.loop.perform_and_wait(get_ident) == other.loop.ident
            assert other.loop.perform_and_wait(lambda *args: args, 1, 2, timeout=None) == (1, 2)

    def test_t2_the_exception_comes_back_and_is_not_reported(self) -> None:
        with LoopThread() as other:
            with pytest.raises(ZeroDivisionError):
                other.loop.perform_and_wait(lambda: 1 / 0)
            assert other.call(int) == 0

    def test_t2_the_waiter_is_released_when_the_thread_ends(self) -> None:
        loop_made = Event()
        go = Event()
        loops: list[RunLoop] = []

        def body() -> None:
            loops.append(RunLoop.current())
            loop_made.set()
            assert go.wait(PATIENCE)

        thread = Thread(target=body)
        thread.start()
        assert loop_made.wait(PATIENCE)

        def end_when_queued() -> None:
            assert eventually(lambda: bool(loops[0]._blocks.inbox))
            go.set()

        ender = Thread(target=end_when_queued)
        ender.start()
        with pytest.raises(LoopEndedError, match="ended"):
            loops[0].perform_and_wait(int, timeout=None)
        thread.join()
        ender.join()
        with pytest.raises(LoopEndedError, match="ended"):
            loops[0].perform_and_wait(int)

    @pytest.mark.parametrize("timeout", [0, -1, 0.01])
    def test_a_call_that_times_out_unbegun_is_withdrawn(self, timeout: float) -> None:
        with LoopThread("busy") as other:
            ran: list[int] = []
            with pytest.raises(ReceiveTimeoutError, match="withdrawn"):
                other.loop.perform_and_wait(ran.append, 1, timeout=timeout)
            assert other.call(other.loop.run_in_mode, DEFAULT_MODE, 0) is RunResult.FINISHED
            assert ran == []

    def test_a_call_that_times_out_begun_goes_on(self) -> None:
        begun, go, ended = Event(), Event(), Event()

        def call() -> None:
            begun.set()
            assert go.wait(PATIENCE)
            ended.set()

        with LoopThread() as other:
            with pytest.raises(ReceiveTimeoutError, match="goes on"):
                # Long enough for the call to begin, which is checked.
                other.loop.perform_and_wait(call, timeout=0.5)
            assert begun.is_set()
            assert not ended.is_set()
            go.set()
            assert ended.wait(PATIENCE)

    def test_two_loops_that_wait_for_each_other_time_out(self) -> None:
        with LoopThread() as one, LoopThread() as other:

            def ask_back() -> None:
                one.loop.perform_and_wait(int, timeout=0.05)

            def ask() -> None:
                other.loop.perform_and_wait(ask_back, timeout=PATIENCE)

            with pytest.raises(ReceiveTimeoutError, match="withdrawn"):
                one.call(ask)

    def test_a_wake_up_during_the_wait_is_not_lost(self) -> None:
        """The thread sleeps on one waiter, whatever for."""
        loop = RunLoop.current()
        performed: list[int] = []
        keep_alive(loop)
        with LoopThread() as other:

            def meanwhile() -> None:
                loop.perform(performed.append, 1)
                loop.perform(loop.stop)

            loop.perform(other.loop.perform_and_wait, meanwhile)
            assert loop.run() is RunResult.STOPPED
        assert performed == [1]


class TestBadInput:
    @pytest.mark.parametrize("fn", [None, 3, "print"])
    def test_what_is_performed_is_callable(self, fn: Callable[[], None]) -> None:
        loop = RunLoop.current()
        for call in (loop.perform, loop.perform_and_wait):
            with pytest.raises(TypeError, match="callable"):
                call(fn)
        with LoopThread() as other, pytest.raises(TypeError, match="callable"):
            other.loop.perform_and_wait(fn)

    @pytest.mark.parametrize(
        ("modes", "error"),
        [
            (None, TypeError),
            (3, TypeError),
            ([3], TypeError),
            (b"default", TypeError),
            ([], ValueError),
            ("", ValueError),
            (["a", ""], ValueError),
        ],
    )
    def test_modes_are_names(self, modes: str, error: type[Exception]) -> None:
        loop = RunLoop.current()
        for call in (loop.perform, loop.perform_and_wait):
            with pytest.raises(error):
                call(int, modes=modes)
        assert loop.run() is RunResult.FINISHED

    @pytest.mark.parametrize(
        ("timeout", "error"), [("1", TypeError), (True, TypeError), (float("nan"), ValueError)]
    )
    def test_a_time_out_is_a_number(self, timeout: float, error: type[Exception]) -> None:
        with LoopThread() as other, pytest.raises(error, match="time-out"):
            other.loop.perform_and_wait(int, timeout=timeout)

    def test_an_ended_loop_performs_nothing(self, reports: Reports) -> None:
        loop = run_on_thread(RunLoop.current)
        with pytest.raises(LoopEndedError, match="ended"):
            loop.perform(int)
        assert reports.take() == []
