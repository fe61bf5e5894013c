"""The notification queue: styles, coalescing, modes, and what becomes of it (T6-T11)."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Coalescing,
    InputSource,
    LoopEndedError,
    MachPort,
    Notification,
    NotificationCenter,
    NotificationQueue,
    PortError,
    PostingStyle,
    RunLoop,
    RunResult,
    Timer,
    WrongThreadError,
)
from tests.notifications.helpers import Observer, Sender
from tests.support import Reports, run_on_thread

pytestmark = pytest.mark.own_thread

NOW = PostingStyle.NOW
SOON = PostingStyle.AS_SOON_AS_POSSIBLE
IDLE = PostingStyle.WHEN_IDLE
LATER = pytest.mark.parametrize("style", [SOON, IDLE], ids=["soon", "idle"])


class Bench:
    """A queue, its center, and somebody who is told of everything."""

    def __init__(self) -> None:
        self.center = NotificationCenter()
        self.queue = NotificationQueue(self.center)
        self.observer = Observer()
        self.center.add_observer(self.observer)
        self.loop = RunLoop.current()

    @property
    def names(self) -> list[str]:
        return self.observer.names

    def run_out(self, mode: str = DEFAULT_MODE) -> None:
        assert self.loop.run_in_mode(mode, 5.0) is RunResult.FINISHED


class TestConstants:
    def test_are_those_of_the_originals(self) -> None:
        """T6."""
        assert (PostingStyle.WHEN_IDLE, PostingStyle.AS_SOON_AS_POSSIBLE, PostingStyle.NOW) == (
            1,
            2,
            3,
        )
        assert (Coalescing.NONE, Coalescing.ON_NAME, Coalescing.ON_SENDER) == (0, 1, 2)


class TestNow:
    """T7."""

    def test_is_at_once(self) -> None:
        bench = Bench()
        assert bench.queue.enqueue("a", NOW)
        assert bench.names == ["a"]
        assert len(bench.queue) == 0

    def test_does_not_coalesce_with_itself(self) -> None:
        bench = Bench()
        for _ in range(3):
            bench.queue.enqueue("a", NOW)
        assert bench.names == ["a", "a", "a"]

    @LATER
    def test_takes_out_what_is_queued(self, style: PostingStyle) -> None:
        bench = Bench()
        bench.queue.enqueue("a", style)
        bench.queue.enqueue("b", style)
        bench.queue.enqueue("a", NOW)
        assert bench.names == ["a"]
        bench.run_out()
        assert bench.names == ["a", "b"]

    @LATER
    def test_without_coalescing_does_not(self, style: PostingStyle) -> None:
        bench = Bench()
        bench.queue.enqueue("a", style)
        bench.queue.enqueue("a", NOW, coalesce=Coalescing.NONE)
        bench.run_out()
        assert bench.names == ["a", "a"]

    @pytest.mark.parametrize(
        ("modes", "expected"),
        [
            (DEFAULT_MODE, False),
            ("special", True),
            ([DEFAULT_MODE, "special"], True),
            (COMMON_MODES, False),  # compared as it is
        ],
    )
    def test_only_in_its_modes(self, modes: Any, expected: bool) -> None:
        bench = Bench()
        results: list[bool] = []
        bench.loop.add_common_mode("special")
        bench.loop.perform(
            lambda: results.append(bench.queue.enqueue("a", NOW, modes=modes)), modes="special"
        )
        bench.run_out("special")
        assert results == [expected]
        assert bench.names == ["a"] * expected

    def test_in_any_mode_while_the_loop_does_not_run(self) -> None:
        bench = Bench()
        for modes in ("special", COMMON_MODES):
            assert bench.queue.enqueue("a", NOW, modes=modes)
        assert bench.names == ["a", "a"]

    def test_in_the_wrong_mode_leaves_alone_what_is_queued(self) -> None:
        bench = Bench()
        bench.queue.enqueue("a", SOON)
        bench.loop.perform(bench.queue.enqueue, "a", NOW, modes="special")
        bench.run_out("special")
        assert bench.names == []
        bench.run_out()
        assert bench.names == ["a"]


class TestCoalescing:
    """T6, T8."""

    @LATER
    def test_the_last_wins_and_moves_to_the_end(self, style: PostingStyle) -> None:
        bench = Bench()
        for number, name in enumerate("abcab"):
            bench.queue.enqueue(name, style, user_info={"number": number})
        assert len(bench.queue) == 3
        bench.run_out()
        assert bench.names == ["c", "a", "b"]
        assert bench.observer.infos("number") == [2, 3, 4]

    @LATER
    def test_none(self, style: PostingStyle) -> None:
        bench = Bench()
        for name in "aba":
            bench.queue.enqueue(name, style, coalesce=Coalescing.NONE)
        bench.run_out()
        assert bench.names == ["a", "b", "a"]

    @pytest.mark.parametrize(
        ("coalesce", "left"),
        [
            (Coalescing.NONE, ["a of one", "a of two", "b of one", "a of one"]),
            (Coalescing.ON_NAME, ["b of one", "a of one"]),
            (Coalescing.ON_SENDER, ["a of two", "a of one"]),
            (Coalescing.ON_NAME | Coalescing.ON_SENDER, ["a of two", "b of one", "a of one"]),
        ],
        ids=["none", "name", "sender", "both"],
    )
    @LATER
    def test_on_what(self, coalesce: Coalescing, left: list[str], style: PostingStyle) -> None:
        bench = Bench()
        senders = {"one": Sender(), "two": Sender()}
        words = {id(sender): word for word, sender in senders.items()}
        for name, word in (("a", "one"), ("a", "two"), ("b", "one")):
            bench.queue.enqueue(name, style, sender=senders[word], coalesce=Coalescing.NONE)
        bench.queue.enqueue("a", style, sender=senders["one"], coalesce=coalesce)
        bench.run_out()
        assert [f"{n.name} of {words[id(n.sender)]}" for n in bench.observer.notifications] == left

    def test_both_by_default(self) -> None:
        bench = Bench()
        one, two = Sender(), Sender()
        for sender in (one, two, one):
            bench.queue.enqueue("a", SOON, sender=sender)
        bench.run_out()
        assert [n.sender for n in bench.observer.notifications] == [two, one]

    def test_senders_that_are_equal_are_two(self) -> None:
        bench = Bench()
        one, two = [1], [1]
        for sender in (one, two):
            bench.queue.enqueue("a", SOON, sender=sender)
        assert len(bench.queue) == 2
        bench.run_out()

    @pytest.mark.parametrize(("first", "second"), [(SOON, IDLE), (IDLE, SOON)])
    def test_over_both_styles(self, first: PostingStyle, second: PostingStyle) -> None:
        bench = Bench()
        bench.queue.enqueue("a", first, user_info={"number": 1})
        bench.queue.enqueue("a", second, user_info={"number": 2})
        bench.run_out()
        assert bench.observer.infos("number") == [2]


class TestDequeue:
    @LATER
    def test_takes_out_what_matches(self, style: PostingStyle) -> None:
        bench = Bench()
        sender = Sender()
        bench.queue.enqueue("a", style)
        bench.queue.enqueue("a", style, sender=sender)
        bench.queue.enqueue("b", style, sender=sender)
        assert bench.queue.dequeue("c") == 0
        assert bench.queue.dequeue("a", sender=sender, coalesce=Coalescing.NONE) == 0
        assert bench.queue.dequeue("a") == 1  # that of no sender
        assert bench.queue.dequeue(Notification("b", sender)) == 1
        assert bench.queue.dequeue("x", sender=sender, coalesce=Coalescing.ON_SENDER) == 1
        assert bench.queue.dequeue("a") == 0
        bench.run_out()
        assert bench.names == []

    def test_of_both_styles(self) -> None:
        bench = Bench()
        for style in (SOON, IDLE):
            bench.queue.enqueue("a", style, coalesce=Coalescing.NONE)
        assert bench.queue.dequeue("a", coalesce=Coalescing.ON_NAME) == 2
        assert len(bench.queue) == 0
        bench.run_out()
        assert bench.names == []

    def test_and_enqueue_again(self) -> None:
        bench = Bench()
        for _ in range(1000):
            bench.queue.enqueue("a", SOON)
            bench.queue.dequeue("a")
        bench.queue.enqueue("a", SOON)
        assert len(bench.loop._blocks) == 1
        bench.run_out()
        assert bench.names == ["a"]


class TestDraining:
    """T9."""

    @LATER
    def test_first_in_first_out(self, style: PostingStyle) -> None:
        bench = Bench()
        expected = [f"{number}" for number in range(50)]
        for name in expected:
            bench.queue.enqueue(name, style)
        bench.run_out()
        assert bench.names == expected
        assert len(bench.queue) == 0

    @LATER
    def test_what_is_queued_meanwhile_waits_for_the_next(self, style: PostingStyle) -> None:
        bench = Bench()
        told: list[str] = []

        def observe(notification: Notification) -> None:
            told.append(notification.name)
            if notification.name == "a":
                bench.queue.enqueue("c", style)
                assert len(bench.queue) == 1  # "b" has left it already
                bench.queue.enqueue("b", style)  # so this replaces nothing

        bench.center.add_observer(observe)
        bench.queue.enqueue("a", style)
        bench.queue.enqueue("b", style)
        bench.run_out()
        assert told == ["a", "b", "c", "b"]

    @LATER
    def test_in_its_modes(self, style: PostingStyle) -> None:
        bench = Bench()
        bench.loop.add_common_mode("common too")
        for name, modes in (
            ("default", DEFAULT_MODE),
            ("special", "special"),
            ("both", [DEFAULT_MODE, "special"]),
            ("common", COMMON_MODES),
        ):
            bench.queue.enqueue(name, style, modes=modes)
        bench.run_out("other")
        assert bench.names == []
        bench.run_out("special")
        assert bench.names == ["special", "both"]
        bench.run_out("common too")
        assert bench.names == ["special", "both", "common"]
        bench.run_out()
        assert bench.names == ["special", "both", "common", "default"]
        bench.run_out("special")

    @LATER
    def test_errors_are_reported(self, style: PostingStyle, reports: Reports) -> None:
        bench = Bench()
        error = LookupError("on purpose")

        def fails(notification: Notification) -> None:
            raise error

        bench.center.add_observer(fails, "a")
        for name in "ab":
            bench.queue.enqueue(name, style)
        bench.run_out()
        assert bench.names == ["a", "b"]
        assert reports.take() == [error]

    @LATER
    def test_an_interrupt_loses_nothing_else(self, style: PostingStyle) -> None:
        bench = Bench()

        def interrupts(notification: Notification) -> None:
            raise KeyboardInterrupt

        bench.center.add_observer(interrupts, "a")
        for name in "abc":
            bench.queue.enqueue(name, style)
        with pytest.raises(KeyboardInterrupt):
            bench.loop.run(5.0)
        assert len(bench.queue) == 2
        bench.run_out()
        assert bench.names == ["a", "b", "c"]

    def test_soon_comes_before_idle(self) -> None:
        bench = Bench()
        bench.queue.enqueue("idle", IDLE)
        bench.queue.enqueue("soon", SOON)
        bench.run_out()
        assert bench.names == ["soon", "idle"]


EXPECTED = ["one", "posted by one", "two", "posted by two"]


class TestAsSoonAsPossible:
    """T10: after each event, timer and performed call."""

    def order(self, begin: Callable[[Bench, Callable[[str], None]], object]) -> list[str]:
        """What happens if callbacks are begun that each log their name and queue a notification."""
        bench = Bench()
        told: list[str] = []
        bench.center.add_observer(
            lambda notification: told.append(f"posted by {notification.name}")
        )

        def callback(name: str) -> None:
            told.append(name)
            bench.queue.enqueue(name, SOON)

        kept = begin(bench, callback)
        while len(told) < 4:
            assert bench.loop.run_mode(DEFAULT_MODE, 5.0)
        del kept
        return told

    def test_messages(self) -> None:
        def begin(bench: Bench, callback: Callable[[str], None]) -> object:
            port = MachPort(lambda message: callback((message.data or b"").decode()))
            bench.loop.add_port(port)
            port.send_many([b"one", b"two"])
            return port

        assert self.order(begin) == EXPECTED

    def test_timers(self) -> None:
        def begin(bench: Bench, callback: Callable[[str], None]) -> object:
            for name in ("one", "two"):
                bench.loop.call_later(0.0, callback, name)
            return None

        assert self.order(begin) == EXPECTED

    def test_sources(self) -> None:
        def begin(bench: Bench, callback: Callable[[str], None]) -> object:
            for order, name in enumerate(("one", "two")):
                source = InputSource(lambda _, name=name: callback(name), order=order)  # type: ignore[misc]
                bench.loop.add_source(source)
                source.signal()
            return None

        assert self.order(begin) == EXPECTED

    def test_performed_calls(self) -> None:
        def begin(bench: Bench, callback: Callable[[str], None]) -> object:
            for name in ("one", "two"):
                bench.loop.perform(callback, name)
            return None

        assert self.order(begin) == EXPECTED

    def test_a_callback_that_fails(self, reports: Reports) -> None:
        bench = Bench()

        def fails() -> None:
            bench.queue.enqueue("a", SOON)
            raise LookupError("on purpose")

        bench.loop.perform(fails)
        bench.run_out()
        assert bench.names == ["a"]
        reports.take()

    def test_within_a_nested_run(self) -> None:
        bench = Bench()

        def nested() -> None:
            bench.queue.enqueue("a", SOON)
            bench.loop.run(0)
            assert bench.names == ["a"]

        bench.loop.perform(nested)
        bench.run_out()
        assert bench.names == ["a"]

    def test_in_another_mode_it_waits(self) -> None:
        bench = Bench()
        bench.loop.perform(bench.queue.enqueue, "a", SOON, modes="special")
        bench.run_out("special")
        assert bench.names == []
        bench.run_out()
        assert bench.names == ["a"]

    def test_it_ends_run_mode(self) -> None:
        """``while not done: loop.run_mode(…)`` sees what an observer did."""
        bench = Bench()
        bench.loop.call_later(60.0, bench.loop.stop)
        bench.loop.call_later(0.0, bench.queue.enqueue, "a", SOON)
        while not bench.names:
            assert bench.loop.run_mode(DEFAULT_MODE, 30.0)
        bench.loop.cancel_calls()

    def test_again_and_again_lets_other_callbacks_run(self) -> None:
        bench = Bench()
        bench.center.add_observer(lambda _: bench.queue.enqueue("a", SOON), "a")
        bench.queue.enqueue("a", SOON)
        bench.loop.call_later(0.01, bench.loop.stop)
        assert bench.loop.run(5.0) is RunResult.STOPPED
        assert len(bench.names) > 1
        bench.queue.dequeue("a")

    def test_from_an_observer_of_the_run_loop(self) -> None:
        """It is about to sleep, and does not."""
        from portkit import Activity, Observer as RunLoopObserver  # noqa: I001

        bench = Bench()
        once = RunLoopObserver(
            lambda o, a: bench.queue.enqueue("a", SOON), Activity.BEFORE_WAITING, repeats=False
        )
        bench.loop.add_observer(once)
        bench.loop.call_later(60.0, bench.loop.stop)
        bench.center.add_observer(lambda _: bench.loop.stop())
        assert bench.loop.run(30.0) is RunResult.STOPPED
        bench.loop.cancel_calls()


class TestWhoMayUseIt:
    def test_the_default_is_the_threads_own(self) -> None:
        """T11."""
        queue = NotificationQueue.default()
        assert NotificationQueue.default() is queue
        assert run_on_thread(NotificationQueue.default) is not queue

    def test_it_posts_to_the_default_center(self) -> None:
        observer = Observer()
        with NotificationCenter.default().add_observer(observer, "queued"):
            NotificationQueue.default().enqueue("queued", SOON)
            RunLoop.current().run(5.0)
        assert observer.names == ["queued"]

    def test_other_threads_may_not(self) -> None:
        queue = NotificationQueue(NotificationCenter())
        for call in (
            lambda: queue.enqueue("a", NOW),
            lambda: queue.enqueue("a", SOON),
            lambda: queue.dequeue("a"),
        ):
            with pytest.raises(WrongThreadError, match="have that thread's loop perform"):
                run_on_thread(call)

    def test_wrong_arguments(self) -> None:
        bench = Bench()
        enqueue: Any = bench.queue.enqueue
        for arguments, options, error in (
            ((1, SOON), {}, TypeError),
            (("", SOON), {}, ValueError),
            (("a", 9), {}, ValueError),
            (("a", SOON), {"coalesce": 9}, ValueError),
            (("a", SOON), {"modes": ""}, ValueError),
            (("a", SOON), {"modes": []}, ValueError),
            (("a", SOON), {"modes": 5}, TypeError),
            (("a", SOON), {"user_info": 5}, TypeError),
            ((Notification("a"), SOON), {"user_info": {}}, TypeError),
        ):
            with pytest.raises(error):
                enqueue(*arguments, **options)
        assert len(bench.queue) == 0
        with pytest.raises(ValueError, match="at least 1"):
            NotificationQueue(limit=0)

    def test_too_many(self) -> None:
        queue = NotificationQueue(NotificationCenter(), limit=3)
        for number in range(3):
            queue.enqueue(f"{number}", SOON if number % 2 else IDLE)
        with pytest.raises(PortError, match="run this thread's loop"):
            queue.enqueue("more", SOON)
        queue.enqueue("0", SOON)  # replaces one
        assert len(queue) == 3
        RunLoop.current().run(5.0)
        assert len(queue) == 0


class TestTheEndOfTheThread:
    """T11: it dies with the thread; what is pending is reported."""

    def test_is_reported_once(self, reports: Reports) -> None:
        def body() -> None:
            queue = NotificationQueue.default()
            for number in range(4):
                queue.enqueue(f"name {number}", SOON)
                queue.enqueue(f"idle {number}", IDLE)

        run_on_thread(body)
        (record,) = reports.records
        text = record.getMessage()
        assert "8 queued notifications were never posted" in text
        assert "'name 0', 'name 1', 'name 2', 'name 3', 'idle 0', …" in text
        assert [type(error) for error in reports.take()] == [LoopEndedError]

    @LATER
    def test_with_each_style_alone(self, style: PostingStyle, reports: Reports) -> None:
        run_on_thread(lambda: NotificationQueue.default().enqueue("a", style))
        (error,) = reports.take()
        assert isinstance(error, LoopEndedError)

    def test_of_the_main_thread(self) -> None:
        """At the end of the process."""
        code = (
            "from portkit import NotificationQueue, PostingStyle\n"
            "NotificationQueue.default().enqueue('later', PostingStyle.WHEN_IDLE)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert "1 queued notifications were never posted" in done.stderr
        assert "'later'" in done.stderr

    def test_goes_without_a_word_if_nothing_is_queued(self) -> None:
        def body() -> None:
            queue = NotificationQueue.default()
            queue.enqueue("a", SOON)
            queue.enqueue("b", IDLE)
            RunLoop.current().run(5.0)
            queue.enqueue("c", SOON)
            queue.dequeue("c")

        run_on_thread(body)

    def test_and_afterwards_it_raises(self) -> None:
        queues: list[NotificationQueue] = []
        run_on_thread(lambda: queues.append(NotificationQueue.default()))
        with pytest.raises(LoopEndedError):
            queues[0].enqueue("a", SOON)

    def test_lets_go_of_it(self) -> None:
        refs: list[weakref.ref[NotificationQueue]] = []
        run_on_thread(lambda: refs.append(weakref.ref(NotificationQueue.default())))
        gc.collect()
        assert refs[0]() is None


def test_with_nothing_in_it_costs_nothing() -> None:
    bench = Bench()
    before = bench.loop.describe()
    bench.queue.enqueue("a", SOON)
    bench.queue.enqueue("b", IDLE)
    bench.run_out()
    assert bench.loop.describe() == before
    bench.loop.call_later(0.0, Timer(1, print).invalidate)
    bench.run_out()
