"""Observers (R36-R41)."""

from __future__ import annotations

from threading import Event

import pytest

from portkit import COMMON_MODES, DEFAULT_MODE, Activity, Observer, RunLoop, Timer
from portkit.clock import ManualClock
from tests.support import LoopThread, keep_alive, run_on_thread

pytestmark = pytest.mark.own_thread

EACH = [
    Activity.ENTRY,
    Activity.BEFORE_TIMERS,
    Activity.BEFORE_SOURCES,
    Activity.BEFORE_WAITING,
    Activity.AFTER_WAITING,
    Activity.EXIT,
]


def poll(loop: RunLoop, mode: str = DEFAULT_MODE) -> None:
    keep_alive(loop, mode)
    loop.run_in_mode(mode, 0)


def test_1_1_the_numbers_are_core_foundations() -> None:
    assert [int(activity) for activity in EACH] == [1, 2, 4, 32, 64, 128]
    assert int(Activity.ALL) == 0x0FFFFFFF


@pytest.mark.parametrize("wanted", EACH)
def test_an_observer_is_told_of_what_it_asked_for(clock: ManualClock, wanted: Activity) -> None:
    seen: list[tuple[Observer, Activity]] = []
    observer = Observer(lambda *told: seen.append(told), wanted)
    RunLoop.current().add_observer(observer)
    Timer.scheduled(1.0, lambda timer: None)
    RunLoop.current().run()
    assert seen == [(observer, wanted)]
    assert observer.activities is wanted


def test_a_combination_of_activities() -> None:
    loop = RunLoop.current()
    seen: list[Activity] = []
    loop.add_observer(Observer(lambda o, a: seen.append(a), Activity.EXIT | Activity.ENTRY))
    poll(loop)
    assert seen == [Activity.ENTRY, Activity.EXIT]


def test_r36_ascending_order_and_equals_as_added() -> None:
    loop = RunLoop.current()
    seen: list[str] = []
    for name, order in [("c", 5), ("a", -5), ("b1", 0), ("b2", 0), ("b3", 0), ("d", 9)]:
        loop.add_observer(
            Observer(lambda o, a, name=name: seen.append(name), Activity.ENTRY, order=order)  # type: ignore[misc]
        )
    poll(loop)
    assert seen == ["a", "b1", "b2", "b3", "c", "d"]


def test_r36_the_order_among_equals_is_that_of_the_latest_adding() -> None:
    loop = RunLoop.current()
    seen: list[str] = []
    first, second = (
        Observer(lambda o, a, name=name: seen.append(name), Activity.ENTRY)  # type: ignore[misc]
        for name in ("first", "second")
    )
    for observer in (first, second):
        loop.add_observer(observer)
    loop.add_observer(first)  # nothing: it is there
    poll(loop)
    loop.remove_observer(first)
    loop.add_observer(first)
    poll(loop)
    assert seen == ["first", "second", "second", "first"]


def test_r37_one_loop_many_modes() -> None:
    loop = RunLoop.current()
    seen: list[str | None] = []
    observer = Observer(lambda o, a: seen.append(loop.current_mode), Activity.ENTRY)
    for mode in ("a", "b"):
        loop.add_observer(observer, mode)
    with LoopThread() as other:
        with pytest.raises(ValueError, match="another run loop"):
            other.loop.add_observer(observer)
        assert not other.loop.contains_observer(observer)
        poll(loop, "a")
        poll(loop, "b")
        loop.remove_observer(observer, "a")
        with pytest.raises(ValueError, match="another run loop"):
            other.loop.add_observer(observer)
        loop.remove_observer(observer, "b")
        other.loop.add_observer(observer)
        observer.invalidate()
    assert seen == ["a", "b"]


def test_r37_added_twice_it_is_told_once() -> None:
    loop = RunLoop.current()
    seen: list[Activity] = []
    observer = Observer(lambda o, a: seen.append(a), Activity.ENTRY)
    loop.add_observer(observer)
    loop.add_observer(observer, COMMON_MODES)
    poll(loop)
    assert len(seen) == 1


def test_r38_an_observer_invalidated_by_an_earlier_one_is_skipped() -> None:
    loop = RunLoop.current()
    seen: list[str] = []
    later = Observer(lambda o, a: seen.append("later"), Activity.ENTRY, order=2)
    loop.add_observer(Observer(lambda o, a: later.invalidate(), Activity.ENTRY, order=1))
    loop.add_observer(later)
    poll(loop)
    assert seen == []


def test_r38_an_observer_added_by_an_earlier_one_waits_for_the_next_activity() -> None:
    loop = RunLoop.current()
    seen: list[Activity] = []
    late = Observer(lambda o, a: seen.append(a), order=9)
    loop.add_observer(Observer(lambda o, a: loop.add_observer(late), Activity.BEFORE_TIMERS))
    poll(loop)
    assert seen == [Activity.BEFORE_SOURCES, Activity.EXIT]


def test_r39_one_that_does_not_repeat_is_invalid_after_its_call() -> None:
    loop = RunLoop.current()
    valid: list[bool] = []
    observer = Observer(lambda o, a: valid.append(o.is_valid), repeats=False)
    loop.add_observer(observer)
    poll(loop)
    assert valid == [True]
    assert not observer.is_valid
    assert not loop.contains_observer(observer)


def test_r40_an_observer_is_not_re_entered_by_a_nested_run() -> None:
    loop = RunLoop.current()
    seen: list[Activity] = []
    keep_alive(loop)

    def nest(observer: Observer, activity: Activity) -> None:
        seen.append(activity)
        if len(seen) < 10:
            loop.run_in_mode(DEFAULT_MODE, 0)

    loop.add_observer(Observer(nest, Activity.ENTRY))
    others: list[Activity] = []
    loop.add_observer(Observer(lambda o, a: others.append(a), Activity.ENTRY))
    loop.run_in_mode(DEFAULT_MODE, 0)
    assert len(seen) == 1
    assert len(others) == 2


def test_r40_after_a_callback_that_raised_it_is_called_again() -> None:
    loop = RunLoop.current()
    seen: list[int] = []
    errors: list[BaseException | None] = []
    loop.exception_handler = lambda loop, context: errors.append(context["exception"])

    def fail(observer: Observer, activity: Activity) -> None:
        seen.append(1)
        raise ValueError("once more")

    loop.add_observer(Observer(fail, Activity.ENTRY))
    poll(loop)
    poll(loop)
    assert len(seen) == len(errors) == 2


def test_r41_observers_are_called_without_a_lock() -> None:
    loop = RunLoop.current()

    def change_elsewhere(observer: Observer, activity: Activity) -> None:
        run_on_thread(lambda: loop.add_observer(Observer(lambda o, a: None)), timeout=5.0)

    loop.add_observer(Observer(change_elsewhere, Activity.ENTRY))
    poll(loop)


def test_an_observer_can_be_added_and_removed_while_the_loop_runs() -> None:
    with LoopThread() as other:
        told = Event()
        observer = Observer(lambda o, a: told.set(), Activity.BEFORE_TIMERS)
        other.loop.add_observer(observer)
        other.loop.wake_up()
        assert told.wait(30)
        other.loop.remove_observer(observer)
        other.call(int)
        told.clear()
        other.call(int)
        assert not told.is_set()


@pytest.mark.parametrize("callback", [None, 1])
def test_the_callback_is_callable(callback: None) -> None:
    with pytest.raises(TypeError, match="callable"):
        Observer(callback)  # type: ignore[arg-type]


def test_an_invalid_observer_cannot_be_added() -> None:
    observer = Observer(lambda o, a: None)
    observer.invalidate()
    with pytest.raises(ValueError, match="invalid"):
        RunLoop.current().add_observer(observer)


def test_only_observers_are_added_as_observers() -> None:
    with pytest.raises(TypeError, match="Observer"):
        RunLoop.current().add_observer(Timer(1.0, print))  # type: ignore[arg-type]
