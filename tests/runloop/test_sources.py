"""Input sources: signals, order, callouts, life (R28-R33)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from threading import Barrier, Event, Thread, get_ident
from typing import Any

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    InputSource,
    LoopEndedError,
    Observer,
    RunLoop,
    RunResult,
    Timer,
)
from portkit.clock import ManualClock
from tests.support import LoopThread, eventually, keep_alive, run_on_thread

pytestmark = pytest.mark.own_thread


def added(
    loop: RunLoop, perform: Callable[[], object], mode: str = DEFAULT_MODE, *, order: int = 0
) -> InputSource:
    source = InputSource(lambda source: perform(), order=order)
    loop.add_source(source, mode)
    return source


def poll(loop: RunLoop, mode: str = DEFAULT_MODE) -> RunResult:
    return loop.run_in_mode(mode, 0)


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Threads take turns as often as the interpreter can, so that races happen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TestSignal:
    def test_r28_many_signals_are_one_perform(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        source = added(loop, lambda: ran.append(1))
        for _ in range(5):
            source.signal()
        assert source.is_signalled
        poll(loop)
        poll(loop)
        assert ran == [1]
        assert not source.is_signalled

    def test_r28_a_signal_need_not_wake(self, clock: ManualClock) -> None:
        loop = RunLoop.current()
        ran: list[float] = []
        source = added(loop, lambda: ran.append(clock.now()))
        once = Observer(
            lambda o, a: source.signal(wake=False), Activity.BEFORE_WAITING, repeats=False
        )
        loop.add_observer(once)
        Timer.scheduled(5.0, lambda timer: None)
        loop.run(9.0)
        assert ran == [1005.0]

    def test_r28_signalling_an_invalid_source_does_nothing(self) -> None:
        source = InputSource(lambda source: None)
        source.invalidate()
        source.signal()
        assert not source.is_signalled

    def test_a_signal_before_the_adding_counts(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        source = InputSource(lambda source: ran.append(1))
        source.signal()
        loop.add_source(source)
        poll(loop)
        assert ran == [1]

    def test_a_signal_survives_removal_and_adding(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        source = added(loop, lambda: ran.append(1))
        source.signal()
        loop.remove_source(source)
        poll(loop)
        loop.add_source(source, "other")
        poll(loop, "other")
        assert ran == [1]

    def test_a_signal_wakes_a_sleeping_loop(self) -> None:
        loop = RunLoop.current()
        source = added(loop, int)

        def signal() -> None:
            assert eventually(lambda: loop.is_waiting)
            source.signal()

        thread = Thread(target=signal)
        thread.start()
        run = loop.run_in_mode(DEFAULT_MODE, None, return_after_source_handled=True)
        thread.join()
        assert run is RunResult.HANDLED_SOURCE

    def test_perform_gets_the_source(self) -> None:
        loop = RunLoop.current()
        got: list[InputSource] = []
        source = InputSource(got.append)
        loop.add_source(source)
        source.signal()
        poll(loop)
        assert got == [source]

    def test_one_signal_of_a_source_in_two_modes_is_performed_once(self) -> None:
        loop = RunLoop.current()
        ran: list[str | None] = []
        source = InputSource(lambda source: ran.append(loop.current_mode))
        loop.add_source(source, "a")
        loop.add_source(source, "b")
        source.signal()
        poll(loop, "b")
        poll(loop, "a")
        assert ran == ["b"]


class TestDrain:
    def test_r29_by_order(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        for order in (3, -1, 2, -5, 0):
            added(loop, lambda order=order: ran.append(order), order=order).signal()  # type: ignore[misc]
        poll(loop)
        assert ran == [-5, -1, 0, 2, 3]

    def test_r29_the_flag_is_cleared_before_the_perform(self) -> None:
        """Signalling itself makes it run again, in the next pass."""
        loop = RunLoop.current()
        ran: list[int] = []

        def perform(source: InputSource) -> None:
            ran.append(len(ran))
            if len(ran) < 3:
                source.signal()

        source = InputSource(perform)
        loop.add_source(source)
        source.signal()
        for expected in (1, 2, 3, 3):
            poll(loop)
            assert len(ran) == expected

    def test_r29_a_source_signalled_meanwhile_waits_for_the_next_pass(self) -> None:
        loop = RunLoop.current()
        ran: list[str] = []
        late = added(loop, lambda: ran.append("late"), order=1)
        added(loop, late.signal, order=0).signal()
        poll(loop)
        assert ran == []
        poll(loop)
        assert ran == ["late"]

    def test_r29_return_after_source_handled_leaves_the_others_signalled(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        sources = [added(loop, lambda n=n: ran.append(n), order=n) for n in range(3)]  # type: ignore[misc]
        for source in sources:
            source.signal()
        for count in (1, 2, 3):
            run = loop.run_in_mode(DEFAULT_MODE, None, return_after_source_handled=True)
            assert run is RunResult.HANDLED_SOURCE
            assert ran == list(range(count))
            assert [s.is_signalled for s in sources] == [False] * count + [True] * (3 - count)

    def test_r29_an_earlier_perform_may_invalidate_a_later_source(self) -> None:
        loop = RunLoop.current()
        ran: list[str] = []
        victim = added(loop, lambda: ran.append("victim"), order=2)
        added(loop, victim.invalidate, order=1).signal()
        victim.signal()
        poll(loop)
        assert ran == []

    def test_an_earlier_perform_may_remove_a_later_source(self) -> None:
        """Its cancel callout was made: it must not be performed in that mode any more."""
        loop = RunLoop.current()
        ran: list[str] = []
        keep_alive(loop)
        removed = added(loop, lambda: ran.append("removed"), order=2)
        added(loop, lambda: loop.remove_source(removed), order=1).signal()
        removed.signal()
        poll(loop)
        assert ran == []
        assert removed.is_signalled

    def test_r29_a_nested_run_may_perform_a_later_source(self) -> None:
        loop = RunLoop.current()
        ran: list[str] = []
        later = added(loop, lambda: ran.append("later"), order=2)
        added(loop, lambda: poll(loop), order=1).signal()
        later.signal()
        poll(loop)
        assert ran == ["later"]


Callout = tuple[str, InputSource, RunLoop, str, int]


class Recorded:
    """A source whose callouts are written down."""

    def __init__(self, perform: Callable[[InputSource], Any] = lambda source: None) -> None:
        self.log: list[Callout] = []
        self.source = InputSource(
            perform,
            schedule=lambda *told: self.log.append(("schedule", *told, get_ident())),
            cancel=lambda *told: self.log.append(("cancel", *told, get_ident())),
        )

    @property
    def brief(self) -> list[tuple[str, str]]:
        return [(what, mode) for what, _, _, mode, _ in self.log]


class TestCallouts:
    def test_r30_schedule_and_cancel_are_told_source_loop_and_mode(self) -> None:
        loop = RunLoop.current()
        recorded = Recorded()
        loop.add_source(recorded.source, "m")
        loop.add_source(recorded.source, "m")  # nothing the second time
        loop.remove_source(recorded.source, "m")
        loop.remove_source(recorded.source, "m")
        source, here = recorded.source, get_ident()
        assert recorded.log == [
            ("schedule", source, loop, "m", here),
            ("cancel", source, loop, "m", here),
        ]

    def test_r30_callouts_are_made_on_the_calling_thread(self) -> None:
        recorded = Recorded()
        with LoopThread() as other:
            other.loop.add_source(recorded.source)
            assert recorded.log[-1][4] == get_ident()
            other.call(recorded.source.invalidate)
            assert recorded.log[-1][4] == other.loop.ident

    def test_r30_one_source_in_many_modes_and_loops(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        recorded = Recorded(lambda source: ran.append(get_ident()))
        source = recorded.source
        with LoopThread() as other:
            for mode in ("a", "b"):
                loop.add_source(source, mode)
                other.loop.add_source(source, mode)
            assert len(recorded.log) == 4
            source.signal()
            poll(loop, "b")
            assert ran == [loop.ident]
            source.signal()
            other.call(other.loop.run_in_mode, "a", 0)
            assert ran == [loop.ident, other.loop.ident]
            source.invalidate()
            assert len(recorded.log) == 8

    def test_r30_common_modes_schedule_once_for_each(self) -> None:
        loop = RunLoop.current()
        loop.add_common_mode("m")
        recorded = Recorded()
        loop.add_source(recorded.source, COMMON_MODES)
        assert sorted(recorded.brief) == [("schedule", DEFAULT_MODE), ("schedule", "m")]
        loop.add_common_mode("late")
        assert recorded.brief[-1] == ("schedule", "late")
        loop.remove_source(recorded.source, COMMON_MODES)
        assert sorted(recorded.brief[3:]) == [("cancel", m) for m in (DEFAULT_MODE, "late", "m")]

    def test_r31_invalidation_cancels_every_mode_once(self) -> None:
        loop = RunLoop.current()
        recorded = Recorded()
        for mode in ("a", "b"):
            loop.add_source(recorded.source, mode)
        recorded.source.signal()
        recorded.source.invalidate()
        recorded.source.invalidate()
        assert sorted(recorded.brief[2:]) == [("cancel", "a"), ("cancel", "b")]
        assert not recorded.source.is_valid
        assert not recorded.source.is_signalled
        assert not loop.contains_source(recorded.source, "a")

    def test_r31_in_its_own_perform(self) -> None:
        loop = RunLoop.current()
        recorded = Recorded(lambda source: source.invalidate())
        loop.add_source(recorded.source)
        recorded.source.signal()
        assert loop.run() is RunResult.FINISHED

    def test_callouts_are_made_without_a_lock(self) -> None:
        loop = RunLoop.current()

        def touch(source: InputSource, loop: RunLoop, mode: str) -> None:
            run_on_thread(lambda: keep_alive(loop).invalidate(), timeout=5.0)

        source = InputSource(lambda source: None, schedule=touch, cancel=touch)
        loop.add_source(source)
        source.invalidate()

    def test_a_schedule_callout_that_raises_undoes_the_adding(self) -> None:
        """Design 4: the error goes to whoever added the item."""
        loop = RunLoop.current()
        told: list[tuple[str, str]] = []

        def schedule(source: InputSource, loop: RunLoop, mode: str) -> None:
            told.append(("schedule", mode))
            if len(told) == 2:
                raise RuntimeError("no")

        loop.add_common_mode("m")
        source = InputSource(
            lambda source: None,
            schedule=schedule,
            cancel=lambda source, loop, mode: told.append(("cancel", mode)),
        )
        with pytest.raises(RuntimeError, match="no"):
            loop.add_source(source, COMMON_MODES)
        assert told[2:] == [("cancel", told[0][1])]
        assert not loop.contains_source(source, COMMON_MODES)
        assert not loop.contains_source(source, DEFAULT_MODE)
        assert poll(loop) is RunResult.FINISHED
        with LoopThread() as other:  # it belongs to nobody
            other.loop.add_source(source)
            source.invalidate()

    def test_a_cancel_callout_that_raises_does_not_keep_the_source(self) -> None:
        loop = RunLoop.current()
        cancelled: list[str] = []

        def cancel(source: InputSource, loop: RunLoop, mode: str) -> None:
            cancelled.append(mode)
            raise RuntimeError(mode)

        source = InputSource(lambda source: None, cancel=cancel)
        loop.add_source(source, "a")
        loop.add_source(source, "b")
        with pytest.raises(RuntimeError):
            source.invalidate()
        assert sorted(cancelled) == ["a", "b"]
        assert not loop.contains_source(source, "a")
        assert poll(loop, "b") is RunResult.FINISHED

    def test_invalidating_in_the_schedule_callout(self) -> None:
        loop = RunLoop.current()
        cancelled: list[str] = []
        source = InputSource(
            lambda source: None,
            schedule=lambda source, loop, mode: source.invalidate(),
            cancel=lambda source, loop, mode: cancelled.append(mode),
        )
        with pytest.raises(ValueError, match="invalidated"):
            loop.add_source(source)
        assert cancelled == [DEFAULT_MODE]
        assert poll(loop) is RunResult.FINISHED


class TestOtherThreads:
    def test_r33_a_source_added_while_the_loop_sleeps(self) -> None:
        with LoopThread() as other:
            assert eventually(lambda: other.loop.is_waiting)
            performed: list[int] = []
            source = InputSource(lambda source: performed.append(get_ident()))
            other.loop.add_source(source)
            source.signal()
            assert eventually(lambda: performed)
            assert performed == [other.loop.ident]

    @pytest.mark.parametrize("how", ["remove", "invalidate"])
    def test_r33_losing_the_last_item_ends_a_sleeping_run(self, how: str) -> None:
        """Design 4: it does wake the loop, unlike in CF."""
        loop = RunLoop.current()
        source = keep_alive(loop)

        def lose() -> None:
            assert eventually(lambda: loop.is_waiting)
            if how == "remove":
                loop.remove_source(source)
            else:
                source.invalidate()

        thread = Thread(target=lose)
        thread.start()
        assert loop.run() is RunResult.FINISHED
        thread.join()

    def test_a_loop_can_add_a_source_while_another_removes_it(self) -> None:
        """The source must know every loop it is in: its signals would not get there otherwise."""

        class Interrupted(InputSource):
            """Lets another loop add it in the middle of being removed, or has it wait its turn."""

            @property
            def _modes(self) -> Any:
                before = self.places
                if interrupting.is_set():
                    interrupting.clear()
                    thread.start()
                    added.wait(0.2)
                return before

            @_modes.setter
            def _modes(self, places: Any) -> None:
                self.places = places

        performed: list[int] = []
        interrupting, added = Event(), Event()
        source = Interrupted(lambda source: performed.append(get_ident()))
        with LoopThread() as other:

            def add() -> None:
                other.loop.add_source(source)
                added.set()

            thread = Thread(target=add)
            loop = RunLoop.current()
            loop.add_source(source)
            interrupting.set()
            loop.remove_source(source)
            thread.join()
            other.call(source.signal)
            other.call(int)
        assert performed == [other.loop.ident]

    def test_adding_to_one_mode_while_another_thread_removes_it_from_its_last(self) -> None:
        """It still belongs to the loop afterwards: invalidating takes it out."""

        class Interrupted(InputSource):
            def _claim(self, loop: RunLoop) -> None:
                super()._claim(loop)
                if loop.contains_source(self, "a"):
                    thread.start()
                    removed.wait(0.2)

        loop = RunLoop.current()
        removed = Event()
        source = Interrupted(lambda source: None)
        loop.add_source(source, "a")

        def remove() -> None:
            loop.remove_source(source, "a")
            removed.set()

        thread = Thread(target=remove)
        loop.add_source(source, "b")
        thread.join()
        assert loop.contains_source(source, "b")
        source.invalidate()
        assert not loop.contains_source(source, "b")

    def test_a_signal_is_performed_by_one_of_two_loops(self, hurried_threads: None) -> None:
        performs: list[int] = []
        rounds = 500
        barrier = Barrier(2, timeout=30)
        source = InputSource(lambda source: performs.append(1))

        def body(signals: bool) -> None:
            loop = RunLoop.current()
            loop.add_source(source)
            for _ in range(rounds):
                if signals:
                    source.signal()
                barrier.wait()
                poll(loop)
                barrier.wait()

        thread = Thread(target=body, args=[False])
        thread.start()
        body(True)
        thread.join()
        assert len(performs) == rounds


class TestBadInput:
    def test_perform_is_callable(self) -> None:
        with pytest.raises(TypeError, match="callable"):
            InputSource(None)  # type: ignore[arg-type]

    def test_an_invalid_source_cannot_be_added(self) -> None:
        source = InputSource(lambda source: None)
        source.invalidate()
        with pytest.raises(ValueError, match="invalid"):
            RunLoop.current().add_source(source)

    @pytest.mark.parametrize("item", [None, 3, Timer(1.0, print), Observer(lambda o, a: None)])
    def test_only_sources_are_added_as_sources(self, item: InputSource) -> None:
        with pytest.raises(TypeError, match="InputSource"):
            RunLoop.current().add_source(item)

    def test_an_ended_loop_takes_no_source_but_lets_them_go(self) -> None:
        source = InputSource(lambda source: None)

        def body() -> RunLoop:
            RunLoop.current().add_source(source)
            return RunLoop.current()

        loop = run_on_thread(body)
        with pytest.raises(LoopEndedError, match="ended"):
            loop.add_source(source)
        assert not loop.contains_source(source)
        loop.remove_source(source)
        source.invalidate()

    def test_removing_what_is_not_there_does_nothing(self) -> None:
        RunLoop.current().remove_source(InputSource(lambda source: None), "nowhere")
