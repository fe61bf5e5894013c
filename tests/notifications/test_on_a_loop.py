"""Observers that are called on a run loop (semantics 6.3)."""

from __future__ import annotations

import gc
import weakref
from threading import Event
from typing import Any

import pytest

from portkit import (
    DEFAULT_MODE,
    LoopEndedError,
    Notification,
    NotificationCenter,
    RunLoop,
    RunResult,
)
from portkit.notifications import Observation
from tests.notifications.helpers import Observer, Sender
from tests.ports.helpers import Background
from tests.support import LoopThread, Reports, run_on_thread

pytestmark = pytest.mark.own_thread


@pytest.fixture
def center() -> NotificationCenter:
    return NotificationCenter()


def run_out(loop: RunLoop, mode: str = DEFAULT_MODE) -> None:
    assert loop.run_in_mode(mode, 5.0) is RunResult.FINISHED


class TestWhere:
    def test_on_the_thread_of_the_loop(self, center: NotificationCenter) -> None:
        observer = Observer()
        with LoopThread() as thread:
            center.add_observer(observer, loop=thread.loop)
            for number in range(100):
                center.post("a", user_info={"number": number})
            assert observer.wait(100)
            assert observer.threads == {thread.thread.ident}
        assert observer.infos("number") == list(range(100))

    def test_what_its_own_thread_posts_waits_as_well(self, center: NotificationCenter) -> None:
        """So that there is one order, and nothing is called behind the poster's back."""
        observer, loop = Observer(), RunLoop.current()
        observation = center.add_observer(observer, loop=loop)
        center.post("a")
        center.post("b")
        assert observer.names == []
        assert observation.pending == 2
        run_out(loop)
        assert observer.names == ["a", "b"]
        assert observation.pending == 0

    def test_in_the_order_of_posting_among_observers(self, center: NotificationCenter) -> None:
        told: list[str] = []
        loop = RunLoop.current()
        for name in ("a", "b"):
            center.add_observer(
                lambda notification: told.append(notification.name), name, loop=loop
            )
        for name in "abbaab":
            center.post(name)
        run_out(loop)
        assert told == list("abbaab")

    def test_in_its_modes(self, center: NotificationCenter) -> None:
        special, common, loop = Observer(), Observer(), RunLoop.current()
        center.add_observer(special, loop=loop, modes="special")
        center.add_observer(common, loop=loop)
        center.post("a")
        run_out(loop)
        assert (special.names, common.names) == ([], ["a"])
        center.post("b")
        run_out(loop, "special")
        assert (special.names, common.names) == (["a", "b"], ["a"])
        run_out(loop)
        assert (special.names, common.names) == (["a", "b"], ["a", "b"])

    def test_waiting_ones_end_run_mode(self, center: NotificationCenter) -> None:
        """``while not done: loop.run_mode(…)`` sees what an observer did."""
        observer, loop = Observer(), RunLoop.current()
        loop.call_later(60.0, loop.stop)
        center.add_observer(observer, loop=loop)
        center.post("a")
        while not observer.names:
            assert loop.run_mode(DEFAULT_MODE, 30.0)
        loop.cancel_calls()

    def test_posting_from_an_observer_on_the_loop(self, center: NotificationCenter) -> None:
        told: list[str] = []
        loop = RunLoop.current()

        def observe(notification: Notification) -> None:
            told.append(f"begin {notification.name}")
            if notification.name == "a":
                center.post("c")
            told.append(f"end {notification.name}")

        center.add_observer(observe, loop=loop)
        center.post("a")
        center.post("b")
        run_out(loop)
        assert told == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]

    def test_in_a_nested_run(self, center: NotificationCenter) -> None:
        """What waits is delivered there, in its order."""
        told: list[str] = []
        loop = RunLoop.current()

        def observe(notification: Notification) -> None:
            told.append(f"begin {notification.name}")
            if notification.name == "a":
                loop.run(0)
            told.append(f"end {notification.name}")

        center.add_observer(observe, loop=loop)
        for name in "abc":
            center.post(name)
        run_out(loop)
        assert told == ["begin a", "begin b", "end b", "begin c", "end c", "end a"]


class TestErrors:
    def test_go_to_that_loops_handler(self, center: NotificationCenter) -> None:
        contexts: list[Any] = []
        observer = Observer()
        with LoopThread() as thread:
            thread.loop.exception_handler = lambda _, context: contexts.append(context)
            observation = center.add_observer(lambda _: 1 // 0, loop=thread.loop)
            center.add_observer(observer, loop=thread.loop)
            center.post("a")
            assert observer.wait(1)
        (context,) = contexts
        assert isinstance(context["exception"], ZeroDivisionError)
        assert context["source"] is observation


class TestRemoval:
    def test_what_waits_is_not_delivered(self, center: NotificationCenter) -> None:
        observer, loop = Observer(), RunLoop.current()
        observation = center.add_observer(observer, loop=loop)
        center.post("a")
        observation.remove()
        assert observation.pending == 0
        run_out(loop)
        assert observer.names == []

    def test_what_waits_is_let_go_of(self, center: NotificationCenter) -> None:
        loop, sender = RunLoop.current(), Sender()
        ref = weakref.ref(sender)
        observation = center.add_observer(print, loop=loop)
        center.post("a", sender)
        del sender
        gc.collect()
        assert ref() is not None  # the notification holds it
        observation.remove()
        gc.collect()
        assert ref() is None

    def test_from_another_thread_while_it_is_told(self, center: NotificationCenter) -> None:
        entered, leave = Event(), Event()
        told: list[str] = []

        def observe(notification: Notification) -> None:
            told.append(notification.name)
            entered.set()
            leave.wait(5.0)

        with LoopThread() as thread:
            observation = center.add_observer(observe, loop=thread.loop)
            for name in "abc":
                center.post(name)
            assert entered.wait(30.0)
            observation.remove()  # does not wait for the observer
            leave.set()
            thread.call(lambda: None)
        assert told == ["a"]

    def test_of_a_weak_one(self, center: NotificationCenter) -> None:
        observer, loop = Observer(), RunLoop.current()
        center.add_observer(observer.method, loop=loop, weak=True)
        center.post("a")
        ref = weakref.ref(observer)
        del observer
        gc.collect()
        assert ref() is None
        run_out(loop)


class TestLimit:
    def test_too_many_are_counted_and_reported(
        self, center: NotificationCenter, reports: Reports
    ) -> None:
        observer, loop = Observer(), RunLoop.current()
        observation = center.add_observer(observer, loop=loop, limit=3)
        other = Observer()
        center.add_observer(other)
        for _ in range(2):
            for number in range(5):
                center.post("a", user_info={"number": number})
            assert (observation.pending, len(reports.records)) == (3, 1)
            assert "'a' is not delivered" in reports.records[0].getMessage()
            run_out(loop)
            assert "2 notifications were not delivered" in reports.records[1].getMessage()
            assert observer.infos("number") == [0, 1, 2]
            observer.notifications.clear()
            reports.take()
        assert observation.lost == 4
        assert len(other.names) == 10
        assert not reports.records

    def test_is_wide_by_default(self, center: NotificationCenter) -> None:
        observer, loop = Observer(), RunLoop.current()
        observation = center.add_observer(observer, loop=loop)
        for number in range(20000):
            center.post("a", user_info={"number": number})
        assert observation.pending == 20000
        run_out(loop)
        assert observer.infos("number") == list(range(20000))
        assert observation.lost == 0


class TestTheEndOfTheLoop:
    def test_takes_the_observer_along(self, center: NotificationCenter) -> None:
        observations: list[Observation] = []

        def body() -> None:
            observations.append(center.add_observer(Observer(), loop=RunLoop.current()))

        run_on_thread(body)
        assert not observations[0].is_valid
        assert "of 0 observers" in repr(center)
        center.post("a")

    def test_reports_what_waits(self, center: NotificationCenter, reports: Reports) -> None:
        def body() -> None:
            loop = RunLoop.current()
            for name in ("a", "b"):
                center.add_observer(Observer(), name, loop=loop)
            for name in "aab":
                center.post(name)

        run_on_thread(body)
        assert [type(error) for error in reports.take()] == [LoopEndedError] * 2
        center.post("a")

    def test_is_an_error_to_who_adds_after_it(self, center: NotificationCenter) -> None:
        loop = run_on_thread(RunLoop.current)
        with pytest.raises(LoopEndedError):
            center.add_observer(print, loop=loop)
        assert "of 0 observers" in repr(center)

    def test_while_others_post(self, center: NotificationCenter, reports: Reports) -> None:
        observer = Observer()

        def briefly() -> None:
            loop = RunLoop.current()
            observations.append(center.add_observer(observer, loop=loop, limit=100))
            loop.call_later(60.0, loop.stop)
            while len(observer.notifications) < 10:
                loop.run_mode(DEFAULT_MODE, 30.0)

        def post() -> None:
            while not (observations and not observations[0].is_valid):
                center.post("a")

        for _ in range(10):
            observations: list[Observation] = []
            observer.notifications.clear()
            posters = [Background(post) for _ in range(2)]
            run_on_thread(briefly)
            for poster in posters:
                poster.result()
            assert len(observer.notifications) >= 10
            assert "of 0 observers" in repr(center)
        reports.take()

    def test_a_loop_is_not_kept_alive_by_observers(self, center: NotificationCenter) -> None:
        """R2."""
        center.add_observer(print, loop=RunLoop.current())
        run_out(RunLoop.current())
        assert "notification observers" in RunLoop.current().describe()
